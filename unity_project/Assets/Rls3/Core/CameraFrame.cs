using System;

namespace Rls3.Core
{
    /// <summary>
    /// A camera pose and its axes, as <c>scene/camera.py</c>. Heading 0 looks along +y of rls3_gym's world and turns
    /// to the right; positive pitch looks up; radians.
    /// </summary>
    public sealed class CameraFrame
    {
        public Vector3D Eye { get; }
        public double Heading { get; }
        public double Pitch { get; }
        public double FovDeg { get; }

        readonly Vector3D _right, _up, _forward, _level;

        public CameraFrame(Vector3D eye, double heading, double pitch, double fovDeg)
        {
            Eye = eye;
            Heading = heading;
            Pitch = pitch;
            FovDeg = fovDeg;
            double sin = Math.Sin(heading), cos = Math.Cos(heading);
            _right = new Vector3D(cos, -sin, 0.0);
            _level = new Vector3D(sin, cos, 0.0);
            double tilt = Math.Sin(pitch), flat = Math.Cos(pitch);
            var vertical = new Vector3D(0.0, 0.0, 1.0);
            _up = vertical * flat - _level * tilt;
            _forward = _level * flat + vertical * tilt;
            HalfWidth = Math.Tan(fovDeg * (Math.PI / 180.0) / 2.0);
        }

        /// <summary>Half the picture's width at distance 1 along the optical axis.</summary>
        public double HalfWidth { get; }

        /// <summary>A point of the world in the gravity-aligned camera frame: x right, y up, z along the heading.</summary>
        public Vector3D ToCamera(Vector3D point)
        {
            Vector3D d = point - Eye;
            return new Vector3D(_right.Dot(d), d.Z, _level.Dot(d));
        }

        /// <summary>A point's distances from the camera along the picture's axes: right, up, into the picture.</summary>
        public Vector3D AlongAxes(Vector3D point)
        {
            Vector3D d = point - Eye;
            return new Vector3D(_right.Dot(d), _up.Dot(d), _forward.Dot(d));
        }

        public static CameraFrame From(JsonValue value)
        {
            Vector3D eye = Vector3D.From(value["eye"]);
            return new CameraFrame(
                eye, value["heading"].AsNumber, value["pitch"].AsNumber, value["fov_deg"].AsNumber);
        }
    }
}
