using System.Collections.Generic;

namespace Rls3.Core
{
    /// <summary>A shape as numbers: its name, its sizes, and where it is put. Built into a mesh by <c>MeshMaker</c>.</summary>
    public sealed class Shape
    {
        /// <summary>lathe, cylinder, sphere, box, torus, tube, slab or cushion.</summary>
        public string Name { get; }
        /// <summary>The arguments of that shape, as Python's builder of the same name has them.</summary>
        public JsonValue Sizes { get; }
        public Vector3D Translate { get; }
        public Vector3D RotateDeg { get; }
        public Vector3D Scale { get; }
        /// <summary>Number of copies, evenly spaced about the z axis.</summary>
        public int Around { get; }

        public Shape(JsonValue value)
        {
            Name = value["shape"].AsText;
            Sizes = value;
            Translate = value.Has("translate") ? Vector3D.From(value["translate"]) : new Vector3D(0.0, 0.0, 0.0);
            RotateDeg = value.Has("rotate_deg") ? Vector3D.From(value["rotate_deg"]) : new Vector3D(0.0, 0.0, 0.0);
            Scale = ScaleOf(value);
            Around = value.Has("around") ? (int)value["around"].AsInteger : 1;
        }

        static Vector3D ScaleOf(JsonValue value)
        {
            if (!value.Has("scale"))
                return new Vector3D(1.0, 1.0, 1.0);
            if (value["scale"].Type == JsonType.List)
                return Vector3D.From(value["scale"]);
            double factor = value["scale"].AsNumber;
            return new Vector3D(factor, factor, factor);
        }
    }

    /// <summary>Shapes that look alike: color (sRGB, 0..1), texture by name or null, specular strength 0..1.</summary>
    public sealed class ShapedPart
    {
        const double DefaultSpecular = 0.1;

        public Vector3D Color { get; }
        public string Texture { get; }
        public double Specular { get; }
        public IReadOnlyList<Box> Boxes { get; }
        public IReadOnlyList<Shape> Shapes { get; }

        ShapedPart(JsonValue value, IReadOnlyList<Box> boxes, IReadOnlyList<Shape> shapes)
        {
            Color = Vector3D.From(value["color"]);
            Texture = value.Has("texture") ? value["texture"].AsText : null;
            Specular = value.Has("specular") ? value["specular"].AsNumber : DefaultSpecular;
            Boxes = boxes;
            Shapes = shapes;
        }

        /// <summary>A part of an object kind: one shape that carries its own look.</summary>
        public static ShapedPart OfObject(JsonValue value)
        {
            return new ShapedPart(value, new Box[0], new[] { new Shape(value) });
        }

        /// <summary>The parts of a room's shell or of a piece of furniture.</summary>
        public static IReadOnlyList<ShapedPart> OfRoom(JsonValue parts)
        {
            var found = new List<ShapedPart>();
            foreach (JsonValue part in parts.Items)
            {
                var boxes = new List<Box>();
                var shapes = new List<Shape>();
                if (part.Has("boxes"))
                    foreach (JsonValue row in part["boxes"].Items)
                        boxes.Add(new Box(row));
                if (part.Has("shapes"))
                    foreach (JsonValue shape in part["shapes"].Items)
                        shapes.Add(new Shape(shape));
                found.Add(new ShapedPart(part, boxes, shapes));
            }
            return found;
        }
    }
}
