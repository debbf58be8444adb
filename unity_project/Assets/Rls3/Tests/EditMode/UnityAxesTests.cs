using System;
using NUnit.Framework;
using Rls3.Core;

namespace Rls3.Tests
{
    /// <summary>Unity's axes and angles, computed here as Unity's <c>Quaternion.Euler</c> is documented.</summary>
    public class UnityAxesTests
    {
        static readonly CameraFrame Camera = new CameraFrame(new Vector3D(0.3, -2.0, 1.4), 0.4, -0.3, 52.0);

        // About z, then x, then y, in a left-handed frame.
        static Vector3D Rotated(Vector3D v, Vector3D eulerDeg)
        {
            double c = Cos(eulerDeg.Z), s = Sin(eulerDeg.Z);
            v = new Vector3D(c * v.X - s * v.Y, s * v.X + c * v.Y, v.Z);
            c = Cos(eulerDeg.X);
            s = Sin(eulerDeg.X);
            v = new Vector3D(v.X, c * v.Y - s * v.Z, s * v.Y + c * v.Z);
            c = Cos(eulerDeg.Y);
            s = Sin(eulerDeg.Y);
            return new Vector3D(c * v.X + s * v.Z, v.Y, c * v.Z - s * v.X);
        }

        static double Cos(double degrees) { return Math.Cos(degrees * Math.PI / 180.0); }

        static double Sin(double degrees) { return Math.Sin(degrees * Math.PI / 180.0); }

        static void AreEqual(Vector3D found, Vector3D expected)
        {
            Assert.That((found - expected).Length, Is.LessThan(1e-12), found.ToJson() + " " + expected.ToJson());
        }

        [TestCase(0.0, 0.0, 0.0)]
        [TestCase(0.5, 1.0, 0.2)]
        [TestCase(-1.5, 0.25, 2.0)]
        public void AUnityCameraSeesAPointWhereTheCoreSaysItIs(double x, double y, double z)
        {
            var point = new Vector3D(x, y, z);
            Vector3D seen = Rotated(Camera.AlongAxes(point), UnityAxes.Look(Camera));
            AreEqual(UnityAxes.Point(Camera.Eye) + seen, UnityAxes.Point(point));
        }

        [Test]
        public void TheCameraFrameIsTurnedByTheHeadingAlone()
        {
            var point = new Vector3D(0.5, 1.0, 0.2);
            var back = new Vector3D(0.0, -UnityAxes.Look(Camera).Y, 0.0);
            AreEqual(Rotated(UnityAxes.Point(point - Camera.Eye), back), Camera.ToCamera(point));
        }

        [Test]
        public void AnObjectsYawIsCounterClockwiseSeenFromAbove()
        {
            double yaw = 0.7;
            var tip = new Vector3D(Math.Cos(yaw), Math.Sin(yaw), 0.0);
            AreEqual(Rotated(UnityAxes.Point(new Vector3D(1.0, 0.0, 0.0)), UnityAxes.Yaw(yaw)), UnityAxes.Point(tip));
        }
    }
}
