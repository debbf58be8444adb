using System;
using System.Collections.Generic;
using System.Globalization;
using NUnit.Framework;
using Rls3.Core;

namespace Rls3.Tests
{
    /// <summary>The core says what the Python package says: byte for byte, and geometry to a billionth.</summary>
    public class AgreementTests
    {
        const double Tiny = 1e-9;

        [Test]
        public void NumbersAreWrittenAsPythonWritesThem()
        {
            Check("numbers", input => NumberText.Format(
                BitConverter.Int64BitsToDouble(long.Parse(input, CultureInfo.InvariantCulture))));
        }

        [Test]
        public void NumbersAreReadToTheLastBit()
        {
            Check("decimals", input =>
            {
                double number;
                Assert.That(NumberText.TryParse(input, out number), Is.True, input);
                return BitConverter.DoubleToInt64Bits(number).ToString(CultureInfo.InvariantCulture);
            });
        }

        [Test]
        public void JsonIsReadAndWrittenAsPythonWritesIt()
        {
            Check("json", input => JsonReader.Read(input).ToString());
        }

        [Test]
        public void RelationsAreThoseOfPython()
        {
            var rule = new RelationRule(Vectors.World.Constants);
            Check("relations", input =>
            {
                int index = rule.IndexOf(Vector3D.From(JsonReader.Read(input)));
                if (index < 0)
                    return "none";
                Relation relation = Relation.FromIndex(index);
                return index + " " + relation.Complexity + " " + Captions.Label(relation);
            });
        }

        [Test]
        public void MarginsAreThoseOfPython()
        {
            var rule = new RelationRule(Vectors.World.Constants);
            CheckNumbers("margins", input => new[] { rule.MarginDeg(Vector3D.From(input)) });
        }

        [Test]
        public void CaptionsAreThoseOfPython()
        {
            Check("captions", input =>
            {
                IReadOnlyList<JsonValue> items = JsonReader.Read(input).Items;
                Relation relation = Relation.FromIndex((int)items[1].AsInteger);
                return Vectors.World.Captions.Describe(items[0].AsText, relation, items[2].AsText);
            });
        }

        [Test]
        public void PositionsInTheCameraFrameAreThoseOfPython()
        {
            CheckNumbers("cameras", input =>
            {
                Vector3D point = Vector3D.From(input["point"]);
                Vector3D seen = CameraFrame.From(input["camera"]).ToCamera(point);
                return new[] { seen.X, seen.Y, seen.Z };
            });
        }

        [Test]
        public void FeasibilityIsThatOfPython()
        {
            var feasibility = new Feasibility(Vectors.World);
            Check("feasibility", input =>
            {
                JsonValue value = JsonReader.Read(input);
                var objects = new List<PlacedObject>();
                foreach (JsonValue row in value["objects"].Items)
                    objects.Add(new PlacedObject(
                        row.Items[0].AsText,
                        new Vector3D(row.Items[1].AsNumber, row.Items[2].AsNumber, row.Items[3].AsNumber),
                        row.Items[4].AsNumber));
                IReadOnlyList<JsonValue> e = value["edit"].Items;
                var edit = new Edit(
                    (int)e[0].AsInteger, e[1].AsText, e[2].AsNumber, e[3].AsNumber, e[4].AsNumber, e[5].AsNumber);
                Layout room = Vectors.World.Layout(value["layout"].AsText);
                Placement placement = feasibility.Place(room, objects, edit);
                return placement.Feasible
                    ? "feasible " + placement.Placed.Position.ToJson() + " " + NumberText.Format(placement.Placed.Yaw)
                    : placement.Reason;
            });
        }

        [Test]
        public void CommandsAreUnderstoodAndRefusedAsByPython()
        {
            Check("commands", input =>
            {
                try
                {
                    Command command = Command.Read(input, Vectors.World.Constants.Slots);
                    return command.Show == null ? "edit " + command.Number : "show " + Written(command.Show);
                }
                catch (CommandException error)
                {
                    return error.Problem + " " + error.Number;
                }
            });
        }

        [Test]
        public void MeshesAreThoseOfTheEmbeddedBackend()
        {
            CheckNumbers("meshes", input => Summary(MeshMaker.Make(new Shape(input))), 2e-3);
        }

        static string Written(Show show)
        {
            var objects = new List<JsonValue>();
            foreach (PlacedObject placed in show.Objects)
                objects.Add(JsonValue.Map()
                    .With("kind", new JsonValue(placed.Kind))
                    .With("position", placed.Position.ToJson())
                    .With("yaw", new JsonValue(placed.Yaw)));
            JsonValue camera = JsonValue.Map()
                .With("eye", show.Camera.Eye.ToJson())
                .With("heading", new JsonValue(show.Camera.Heading))
                .With("pitch", new JsonValue(show.Camera.Pitch))
                .With("fov_deg", new JsonValue(show.Camera.FovDeg));
            return JsonValue.Map()
                .With("schema", new JsonValue((long)Protocol.Schema))
                .With("type", new JsonValue("show"))
                .With("number", new JsonValue(show.Number))
                .With("layout", new JsonValue(show.Layout))
                .With("seed", new JsonValue(show.Seed))
                .With("camera", camera)
                .With("quality", new JsonValue(show.Quality))
                .With("size", new JsonValue((long)show.Size))
                .With("objects", JsonValue.List(objects))
                .ToString();
        }

        // Numbers of vertices and triangles, and sums over vertices and corners in which every one has its weight.
        static double[] Summary(MeshData mesh)
        {
            var sums = new double[11];
            sums[0] = mesh.Vertices.Count;
            sums[1] = mesh.Corners.Count / 3;
            for (int i = 0; i < mesh.Vertices.Count; i++)
            {
                double weight = (1 + i % 13) / (double)mesh.Vertices.Count;
                Vector3D v = mesh.Vertices[i], n = mesh.Normals[i];
                double[] numbers = { v.X, v.Y, v.Z, n.X, n.Y, n.Z, mesh.U[i], mesh.V[i] };
                for (int k = 0; k < numbers.Length; k++)
                    sums[2 + k] += weight * numbers[k];
            }
            for (int i = 0; i < mesh.Corners.Count; i++)
                sums[10] += (double)mesh.Corners[i] * (1 + i % 3) / mesh.Corners.Count;
            return sums;
        }

        static void Check(string name, Func<string, string> answer)
        {
            int count = 0;
            foreach (KeyValuePair<string, string> pair in Vectors.Cases(name))
            {
                string said = answer(pair.Key);
                if (said != pair.Value)
                    Assert.Fail(name + ": " + pair.Key + "\nPython: " + pair.Value + "\nhere:   " + said);
                count++;
            }
            Assert.That(count, Is.GreaterThan(0), "no cases of " + name);
            Console.WriteLine(name + ": " + count + " cases agree");
        }

        static void CheckNumbers(string name, Func<JsonValue, double[]> answer, double tolerance = Tiny)
        {
            int count = 0;
            foreach (KeyValuePair<string, string> pair in Vectors.Cases(name))
            {
                double[] said = answer(JsonReader.Read(pair.Key)), known = JsonReader.Read(pair.Value).AsNumbers;
                Assert.That(said.Length, Is.EqualTo(known.Length));
                for (int i = 0; i < said.Length; i++)
                    if (!(Math.Abs(said[i] - known[i]) <= tolerance))
                        Assert.Fail(name + ": " + pair.Key + "\nnumber " + i + ": Python " + known[i] + ", here " + said[i]);
                count++;
            }
            Assert.That(count, Is.GreaterThan(0), "no cases of " + name);
            Console.WriteLine(name + ": " + count + " cases agree");
        }
    }
}
