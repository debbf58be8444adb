using System.Collections.Generic;
using System.Linq;
using NUnit.Framework;
using Rls3.Core;
using Rls3.Unity;
using UnityEngine;

namespace Rls3.Tests
{
    /// <summary>What needs a graphics device and physics: pictures, ids, depth, colliders.</summary>
    public class PictureTests
    {
        const int Size = 128;
        const string Camera = "\"camera\":{\"eye\":[0.0762945397342108,-1.9909181142843115,1.4284965717499198],"
            + "\"heading\":-0.05873509810722391,\"pitch\":-0.3811557473628938,\"fov_deg\":52.0}";
        const string Objects = "\"objects\":["
            + "{\"kind\":\"small pot\",\"position\":[-0.05198842412142057,0.17000994048016937,0.0],\"yaw\":6.18},"
            + "{\"kind\":\"watermelon\",\"position\":[0.24769789367027273,0.6463562738202299,0.0],\"yaw\":4.18},"
            + "{\"kind\":\"white plate\",\"position\":[0.3212422702325275,1.053037352525103,0.7519262951730348],\"yaw\":1.68}]";

        World _world;
        Session _session;
        GameObject _root;
        SceneBuilder _builder;
        CameraRig _rig;

        [SetUp]
        public void MakeScene()
        {
            _world = Bootstrap.LoadWorld();
            _session = new Session(_world, new PlayerIdentity("test", "1", "editor", "device"));
            _root = new GameObject("Test");
            var materials = new Materials();
            _builder = new SceneBuilder(_world, materials, _root.transform);
            _rig = new CameraRig(materials, _root.transform);
            Capture("high");
        }

        [TearDown]
        public void RemoveScene() { Object.DestroyImmediate(_root); }

        void Capture(string quality)
        {
            _session.Receive(
                "{\"schema\":1,\"type\":\"show\",\"number\":1,\"layout\":\"kitchen/0\",\"seed\":0," + Camera + ",\"quality\":\""
                + quality + "\",\"size\":" + Size + "," + Objects + "}");
            Assert.That(_session.Shown.Number, Is.EqualTo(1));
            _builder.Show(_session.Shown);
            _rig.Capture(_session.Shown);
        }

        static Color32[] Decoded(byte[] png)
        {
            var picture = new Texture2D(2, 2, TextureFormat.RGB24, false, true);
            Assert.That(picture.LoadImage(png), Is.True);
            Assert.That(picture.width, Is.EqualTo(Size));
            Assert.That(picture.height, Is.EqualTo(Size));
            Color32[] pixels = picture.GetPixels32();
            Object.DestroyImmediate(picture);
            return pixels;
        }

        static bool Same(Color32 pixel, int r, int g, int b) { return pixel.r == r && pixel.g == g && pixel.b == b; }

        static int SlotOf(Color32 pixel)
        {
            if (Same(pixel, 255, 0, 0))
                return 0;
            if (Same(pixel, 0, 255, 0))
                return 1;
            return Same(pixel, 0, 0, 255) ? 2 : -1;
        }

        [Test]
        public void IdsHoldFourColorsAndNothingElse()
        {
            Color32[] ids = Decoded(_rig.IdsPng);
            for (int slot = 0; slot < 3; slot++)
                Assert.That(ids.Count(p => SlotOf(p) == slot), Is.EqualTo(_rig.Pixels[slot]).And.GreaterThan(20));
            Assert.That(ids.All(p => SlotOf(p) >= 0 || Same(p, 0, 0, 0)), Is.True);
            Assert.That(_rig.Visible, Has.All.InRange(0.5, 1.0));
        }

        [Test]
        public void ObjectsAreSeenWhereTheyProjectTo()
        {
            Color32[] ids = Decoded(_rig.IdsPng);
            for (int slot = 0; slot < 3; slot++)
            {
                PlacedObject placed = _session.Shown.Objects[slot];
                var half = new Vector3D(0.0, 0.0, _world.Kind(placed.Kind).Height / 2.0);
                Vector3D seen = _session.Shown.Camera.AlongAxes(placed.Position + half);
                double scale = _session.Shown.Camera.HalfWidth * seen.Z;
                List<int> found = Enumerable.Range(0, ids.Length).Where(i => SlotOf(ids[i]) == slot).ToList();
                // GetPixels32 begins with the lowest row.
                Assert.That(found.Average(i => i % Size), Is.EqualTo((seen.X / scale + 1.0) / 2.0 * Size).Within(8.0));
                Assert.That(found.Average(i => i / Size), Is.EqualTo((seen.Y / scale + 1.0) / 2.0 * Size).Within(8.0));
            }
        }

        [Test]
        public void DepthIsTheDistanceInMillimeters()
        {
            Color32[] ids = Decoded(_rig.IdsPng), depth = Decoded(_rig.DepthPng);
            for (int slot = 0; slot < 3; slot++)
            {
                double distance = _session.Shown.Camera.ToCamera(_session.Shown.Objects[slot].Position).Length;
                double mean = Enumerable.Range(0, ids.Length).Where(i => SlotOf(ids[i]) == slot)
                    .Average(i => (256 * depth[i].r + depth[i].g) / 1000.0);
                Assert.That(mean, Is.EqualTo(distance).Within(0.3));
            }
            Assert.That(depth.All(p => p.b == 0), Is.True);
        }

        [Test]
        public void TheSameSceneGivesTheSameBytes()
        {
            byte[] first = _rig.ColorPng;
            Capture("high");
            Assert.That(_rig.ColorPng, Is.EqualTo(first));
        }

        [Test]
        public void QualityChangesTheColorPictureAndNothingElse()
        {
            byte[] color = _rig.ColorPng, ids = _rig.IdsPng, depth = _rig.DepthPng;
            Capture("low");
            Assert.That(_rig.ColorPng, Is.Not.EqualTo(color));
            Assert.That(_rig.IdsPng, Is.EqualTo(ids));
            Assert.That(_rig.DepthPng, Is.EqualTo(depth));
        }

        [Test]
        public void TheLampCastsShadowsAndTheRoomIsNeitherBlackNorWhite()
        {
            double mean = Decoded(_rig.ColorPng).Average(p => (p.r + p.g + p.b) / 765.0);
            Assert.That(mean, Is.InRange(0.2, 0.9));
            Color32[] lit = Decoded(_rig.ColorPng);
            Capture("low");
            Color32[] flat = Decoded(_rig.ColorPng);
            int darker = Enumerable.Range(0, lit.Length).Count(i => lit[i].g + 20 < flat[i].g);
            Assert.That(darker, Is.GreaterThan(lit.Length / 200));
        }

        [Test]
        public void PhysicsCarriesObjectsWhereTheCoreSaysThatTheyStand()
        {
            foreach (PlacedObject placed in _session.Shown.Objects)
            {
                // Through the object's own collider and down to what it stands on.
                Vector3 middle = Convert.Point(placed.Position + new Vector3D(0.0, 0.0, 0.02));
                bool found = Physics.Raycast(middle, Vector3.down, out RaycastHit hit, 1f, ~(1 << SceneBuilder.ObjectLayer));
                Assert.That(found, Is.True, placed.Kind);
                Assert.That(hit.point.y, Is.EqualTo((float)placed.Position.Z).Within(0.005f), placed.Kind);
            }
        }

        [Test]
        public void PhysicsFindsNoOverlapWhereTheCoreFindsNone()
        {
            foreach (GameObject made in _builder.Objects)
            {
                var own = made.GetComponent<MeshCollider>();
                foreach (Collider other in _root.GetComponentsInChildren<Collider>())
                {
                    if (other == own)
                        continue;
                    bool overlap = Physics.ComputePenetration(
                        own, made.transform.position, made.transform.rotation, other, other.transform.position,
                        other.transform.rotation, out Vector3 _, out float depth);
                    Assert.That(!overlap || depth < 0.005f, Is.True, made.name + " in " + other.name + ": " + depth);
                }
            }
        }
    }
}
