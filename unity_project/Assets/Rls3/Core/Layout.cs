using System.Collections.Generic;

namespace Rls3.Core
{
    /// <summary>A horizontal rectangle that objects can stand on, world meters.</summary>
    public sealed class Surface
    {
        public string Name { get; }
        public double X0 { get; }
        public double X1 { get; }
        public double Y0 { get; }
        public double Y1 { get; }
        public double Z { get; }
        /// <summary>Free height above it.</summary>
        public double Clearance { get; }

        public Surface(JsonValue row)
        {
            IReadOnlyList<JsonValue> cells = row.Items;
            Name = cells[0].AsText;
            X0 = cells[1].AsNumber;
            X1 = cells[2].AsNumber;
            Y0 = cells[3].AsNumber;
            Y1 = cells[4].AsNumber;
            Z = cells[5].AsNumber;
            Clearance = cells[6].AsNumber;
        }
    }

    /// <summary>An axis-aligned box, world meters: furniture that objects must not touch, or a box of a shape.</summary>
    public sealed class Box
    {
        public double X0 { get; }
        public double X1 { get; }
        public double Y0 { get; }
        public double Y1 { get; }
        public double Z0 { get; }
        public double Z1 { get; }

        public Box(JsonValue row)
        {
            double[] numbers = row.AsNumbers;
            if (numbers.Length != 6)
                throw new JsonException("a box has six numbers, not " + numbers.Length);
            X0 = numbers[0];
            X1 = numbers[1];
            Y0 = numbers[2];
            Y1 = numbers[3];
            Z0 = numbers[4];
            Z1 = numbers[5];
        }
    }

    /// <summary>A point light and an ambient level.</summary>
    public sealed class LightSource
    {
        public Vector3D Position { get; }
        public double Intensity { get; }
        public double Ambient { get; }
        public Vector3D Color { get; }

        public LightSource(JsonValue value)
        {
            Position = Vector3D.From(value["position"]);
            Intensity = value["intensity"].AsNumber;
            Ambient = value["ambient"].AsNumber;
            Color = Vector3D.From(value["color"]);
        }
    }

    /// <summary>A piece of furniture: parts in its own frame, where that stands, and by how much it is turned.</summary>
    public sealed class Piece
    {
        public string Type { get; }
        public Vector3D At { get; }
        /// <summary>Counter-clockwise seen from above.</summary>
        public double TurnDeg { get; }
        public IReadOnlyList<ShapedPart> Parts { get; }

        public Piece(JsonValue value)
        {
            Type = value["type"].AsText;
            At = Vector3D.From(value["at"]);
            TurnDeg = value["turn_deg"].AsNumber;
            Parts = ShapedPart.OfRoom(value["parts"]);
        }

        /// <summary>The mesh of one of its parts in the world.</summary>
        public MeshData InRoom(ShapedPart part)
        {
            return MeshMaker.Make(part).Transformed(
                At, new Vector3D(0.0, 0.0, TurnDeg), new Vector3D(1.0, 1.0, 1.0));
        }
    }

    /// <summary>One furnished room: what decides feasibility in it, and what it looks like. World meters, z up.</summary>
    public sealed class Layout
    {
        public string Key { get; }
        public double X0 { get; }
        public double X1 { get; }
        public double Y0 { get; }
        public double Y1 { get; }
        /// <summary>x0, x1, y0, y1 of the floor plan within which objects may be placed.</summary>
        public double[] Stage { get; }
        public CameraFrame Camera { get; }
        public LightSource Light { get; }
        public IReadOnlyList<Surface> Surfaces { get; }
        public IReadOnlyList<Box> Solids { get; }
        public IReadOnlyList<ShapedPart> Shell { get; }
        public IReadOnlyList<Piece> Pieces { get; }

        public Layout(string key, JsonValue value)
        {
            Key = key;
            double[] bounds = value["bounds"].AsNumbers;
            X0 = bounds[0];
            X1 = bounds[1];
            Y0 = bounds[2];
            Y1 = bounds[3];
            Stage = value["stage"].AsNumbers;
            Camera = CameraFrame.From(value["camera"]);
            Light = new LightSource(value["light"]);
            var surfaces = new List<Surface>();
            foreach (JsonValue row in value["surfaces"].Items)
                surfaces.Add(new Surface(row));
            var solids = new List<Box>();
            foreach (JsonValue row in value["solids"].Items)
                solids.Add(new Box(row));
            var pieces = new List<Piece>();
            foreach (JsonValue piece in value["pieces"].Items)
                pieces.Add(new Piece(piece));
            Surfaces = surfaces;
            Solids = solids;
            Pieces = pieces;
            Shell = ShapedPart.OfRoom(value["shell"]);
        }
    }
}
