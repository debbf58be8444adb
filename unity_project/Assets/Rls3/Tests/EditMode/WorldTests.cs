using NUnit.Framework;
using Rls3.Core;

namespace Rls3.Tests
{
    /// <summary>The world file has all that a player builds.</summary>
    public class WorldTests
    {
        [Test]
        public void EveryRoomCanBeBuilt()
        {
            foreach (string key in Vectors.World.LayoutKeys)
            {
                Layout room = Vectors.World.Layout(key);
                Assert.That(room.Surfaces.Count, Is.GreaterThan(0), key);
                foreach (ShapedPart part in room.Shell)
                    Assert.That(MeshMaker.Make(part).Corners.Count, Is.GreaterThan(0), key);
                foreach (Piece piece in room.Pieces)
                    foreach (ShapedPart part in piece.Parts)
                        Assert.That(MeshMaker.Make(part).Corners.Count, Is.GreaterThan(0), key + " " + piece.Type);
            }
        }

        [Test]
        public void EveryKindIsAsHighAndAsWideAsItSays()
        {
            foreach (ObjectKind kind in Vectors.World.Kinds)
            {
                double height = 0.0, radius = 0.0;
                foreach (ShapedPart part in kind.Parts)
                    foreach (Vector3D v in MeshMaker.Make(part).Vertices)
                    {
                        height = System.Math.Max(height, v.Z);
                        radius = System.Math.Max(radius, System.Math.Sqrt(v.X * v.X + v.Y * v.Y));
                    }
                Assert.That(height, Is.EqualTo(kind.Height).Within(0.02 * kind.Height), kind.Name);
                Assert.That(radius, Is.EqualTo(kind.Radius).Within(0.02 * kind.Radius), kind.Name);
            }
        }

        [Test]
        public void EveryTextureIsThereAndPale()
        {
            foreach (string name in Vectors.World.Textures)
            {
                double sum = 0.0;
                foreach (byte value in TextureMaker.Make(name))
                    sum += value;
                Assert.That(sum / (255.0 * TextureMaker.Side * TextureMaker.Side), Is.InRange(0.6, 1.0), name);
            }
        }

        [Test]
        public void AnotherFileIsRefused()
        {
            Assert.That(() => new World("{}"), Throws.TypeOf<JsonException>());
            Assert.That(() => new World("{\"format\":\"rls3-world\",\"version\":99}"), Throws.TypeOf<JsonException>());
        }
    }
}
