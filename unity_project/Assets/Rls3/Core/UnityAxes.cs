using System;

namespace Rls3.Core
{
    /// <summary>
    /// From rls3_gym's world (right-handed, x right, y away, z up) to Unity's (left-handed, x right, y up, z away). Rotations
    /// are Unity's Euler angles in degrees: about z, then x, then y, and positive about y is clockwise seen from above.
    /// </summary>
    public static class UnityAxes
    {
        const double DegreesPerRadian = 180.0 / Math.PI;

        public static Vector3D Point(Vector3D p) { return new Vector3D(p.X, p.Z, p.Y); }

        /// <summary>Of an object whose yaw is counter-clockwise seen from above, radians.</summary>
        public static Vector3D Yaw(double radians) { return new Vector3D(0.0, -radians * DegreesPerRadian, 0.0); }

        /// <summary>Of a camera: its heading turns to the right, its pitch looks up.</summary>
        public static Vector3D Look(CameraFrame camera)
        {
            return new Vector3D(-camera.Pitch * DegreesPerRadian, camera.Heading * DegreesPerRadian, 0.0);
        }
    }
}
