using System;
using System.Collections.Generic;

namespace Rls3.Core
{
    /// <summary>Meshes of shapes: the builders of <c>backends/embedded/meshes.py</c> and <c>room_shapes.py</c>.</summary>
    public static class MeshMaker
    {
        const double CreaseDeg = 45.0;
        const double FullTurn = 2.0 * Math.PI;

        static readonly Vector3D Origin = new Vector3D(0.0, 0.0, 0.0);
        static readonly Vector3D One = new Vector3D(1.0, 1.0, 1.0);

        /// <summary>Boxes and shapes of a part as one mesh.</summary>
        public static MeshData Make(ShapedPart part)
        {
            var mesh = new MeshData();
            foreach (Box box in part.Boxes)
                AddSlab(mesh, box, 0.0, 0.0);
            foreach (Shape shape in part.Shapes)
                mesh.Append(Make(shape));
            return mesh;
        }

        /// <summary>A shape where it is put, with its copies. Throws <c>JsonException</c> for an unknown shape.</summary>
        public static MeshData Make(Shape shape)
        {
            MeshData one = Untransformed(shape).Transformed(shape.Translate, shape.RotateDeg, shape.Scale);
            var all = new MeshData();
            for (int i = 0; i < shape.Around; i++)
                all.Append(one.Transformed(Origin, new Vector3D(0.0, 0.0, 360.0 * i / shape.Around), One));
            return all;
        }

        /// <summary>A closed cylinder standing on z = 0.</summary>
        public static MeshData Cylinder(double radius, double height, int segments)
        {
            return Frustum(radius, radius, height, segments);
        }

        static MeshData Frustum(double radius, double top, double height, int segments)
        {
            return Lathe(new[] { 0.0, 0.0, radius, 0.0, top, height, 0.0, height }, segments);
        }

        static MeshData Untransformed(Shape shape)
        {
            JsonValue sizes = shape.Sizes;
            switch (shape.Name)
            {
                case "lathe":
                    bool smooth = !sizes.Has("smooth") || sizes["smooth"].AsBool;
                    MeshData lathe = Lathe(Pairs(sizes["profile"]), Segments(sizes, 20));
                    return smooth ? lathe : lathe.Faceted();
                case "cylinder":
                    double radius = sizes["radius"].AsNumber;
                    double top = sizes.Has("top_radius") ? sizes["top_radius"].AsNumber : radius;
                    return Frustum(radius, top, sizes["height"].AsNumber, Segments(sizes, 20));
                case "sphere":
                    return Sphere(Vector3D.From(sizes["radii"]), Segments(sizes, 16));
                case "box":
                    return Cuboid(Vector3D.From(sizes["size"]));
                case "torus":
                    double[] arc = sizes.Has("arc_deg") ? sizes["arc_deg"].AsNumbers : new[] { 0.0, 360.0 };
                    string plane = sizes.Has("plane") ? sizes["plane"].AsText : "xy";
                    return Torus(
                        sizes["radius"].AsNumber, sizes["tube_radius"].AsNumber, arc, plane, Segments(sizes, 16));
                case "tube":
                    return TubeMaker.Tube(Path(sizes["points"]), sizes["radius"], Segments(sizes, 10));
                case "slab":
                    var slab = new MeshData();
                    double[] pattern = sizes.Has("pattern") ? sizes["pattern"].AsNumbers : new[] { 0.0, 0.0 };
                    AddSlab(slab, new Box(sizes["box"]), pattern[0], pattern[1]);
                    return slab;
                case "cushion":
                    return Cushion(
                        new Box(sizes["box"]), sizes["roundness"].AsNumber, (int)sizes["across"].AsInteger);
                default:
                    throw new JsonException("unknown shape \"" + shape.Name + "\"");
            }
        }

        // The profile is radius, z, radius, z, ...: consecutive points that coincide count once.
        static MeshData Lathe(double[] profile, int segments)
        {
            var points = new List<Vector3D>();
            for (int i = 0; i < profile.Length; i += 2)
            {
                var point = new Vector3D(profile[i], profile[i + 1], 0.0);
                if (points.Count == 0 || Distance(points[points.Count - 1], point) > 1e-9)
                    points.Add(point);
            }
            int last = points.Count - 1;
            var flat = new Vector3D[last];
            var along = new double[points.Count];
            for (int i = 0; i < last; i++)
            {
                Vector3D step = points[i + 1] - points[i];
                flat[i] = new Vector3D(step.Y, -step.X, 0.0).Unit;
                along[i + 1] = along[i] + step.Length;
            }
            // On the axis a profile goes on into its own mirror image.
            Vector3D before = points[0].X == 0.0 ? Mirrored(flat[0]) : flat[0];
            Vector3D after = points[last].X == 0.0 ? Mirrored(flat[last - 1]) : flat[last - 1];
            var mesh = new MeshData();
            for (int i = 0; i < last; i++)
            {
                Vector3D start = Blended(flat[i], i == 0 ? before : flat[i - 1]);
                Vector3D end = Blended(flat[i], i == last - 1 ? after : flat[i + 1]);
                for (int k = 0; k <= segments; k++)
                {
                    double turn = FullTurn * k / segments;
                    double share = (double)k / segments;
                    mesh.Add(Spun(points[i], turn), Spun(start, turn), share, along[i] / along[last]);
                    mesh.Add(Spun(points[i + 1], turn), Spun(end, turn), share, along[i + 1] / along[last]);
                }
                mesh.AddSheet(segments + 1, 2);
            }
            return mesh;
        }

        static Vector3D Mirrored(Vector3D normal) { return new Vector3D(-normal.X, normal.Y, 0.0); }

        // A corner bent by more than CreaseDeg stays sharp, a gentler one is shaded round.
        static Vector3D Blended(Vector3D normal, Vector3D neighbor)
        {
            bool round = normal.Dot(neighbor) > Math.Cos(CreaseDeg * Math.PI / 180.0);
            return round ? (normal + neighbor).Unit : normal;
        }

        // (radius, z) turned about the z axis.
        static Vector3D Spun(Vector3D point, double turn)
        {
            return new Vector3D(Math.Cos(turn) * point.X, Math.Sin(turn) * point.X, point.Y);
        }

        static double Distance(Vector3D a, Vector3D b) { return Math.Max(Math.Abs(a.X - b.X), Math.Abs(a.Y - b.Y)); }

        static MeshData Sphere(Vector3D radii, int segments)
        {
            int steps = segments / 2;
            var profile = new double[2 * steps + 2];
            for (int i = 0; i <= steps; i++)
            {
                double angle = -Math.PI / 2.0 + Math.PI * i / steps;
                profile[2 * i] = i == 0 || i == steps ? 0.0 : Math.Cos(angle);
                profile[2 * i + 1] = Math.Sin(angle);
            }
            return Lathe(profile, segments).Transformed(Origin, Origin, radii);
        }

        static MeshData Cuboid(Vector3D size)
        {
            var mesh = new MeshData();
            for (int axis = 0; axis < 3; axis++)
                for (int sign = -1; sign <= 1; sign += 2)
                {
                    Vector3D normal = Along(axis) * sign;
                    Vector3D first = Along((axis + 1) % 3);
                    Vector3D second = normal.Cross(first);
                    for (int a = -1; a <= 1; a += 2)
                        for (int b = -1; b <= 1; b += 2)
                            mesh.Add(normal + first * a + second * b, normal, (a + 1) / 2, (b + 1) / 2);
                    mesh.AddSheet(2, 2);
                }
            return mesh.Transformed(new Vector3D(0.0, 0.0, size.Z / 2.0), Origin, size * 0.5);
        }

        static MeshData Torus(double radius, double tubeRadius, double[] arcDeg, string plane, int segments)
        {
            double start = arcDeg[0] * Math.PI / 180.0, stop = arcDeg[1] * Math.PI / 180.0;
            int steps = Math.Max(4, (int)Math.Ceiling(Math.Abs(stop - start) / FullTurn * segments));
            Vector3D first = Along("xyz".IndexOf(plane[0])), second = Along("xyz".IndexOf(plane[1]));
            Vector3D third = first.Cross(second);
            const int around = 8;
            var mesh = new MeshData();
            for (int i = 0; i <= steps; i++)
            {
                double angle = start + (stop - start) * i / steps;
                Vector3D outward = first * Math.Cos(angle) + second * Math.Sin(angle);
                for (int k = 0; k <= around; k++)
                {
                    double turn = FullTurn * k / around;
                    Vector3D normal = outward * Math.Cos(turn) + third * Math.Sin(turn);
                    mesh.Add(outward * radius + normal * tubeRadius, normal, (double)i / steps, (double)k / around);
                }
            }
            mesh.AddSheet(steps + 1, around + 1);
            return mesh;
        }

        // One texture repeat per meter; or once over a pattern of that width and depth, centered on the origin.
        static void AddSlab(MeshData mesh, Box box, double patternWidth, double patternDepth)
        {
            double[] low = { box.X0, box.Y0, box.Z0 }, high = { box.X1, box.Y1, box.Z1 };
            for (int axis = 0; axis < 3; axis++)
                for (int sign = -1; sign <= 1; sign += 2)
                {
                    int a = axis == 0 ? 1 : 0, b = axis == 2 ? 1 : 2;
                    int first = mesh.Vertices.Count;
                    for (int i = 0; i < 4; i++)
                    {
                        // (a, b, axis) is left-handed for the y axis; the order of corners makes up for it.
                        int corner = (sign > 0) == (axis == 1) ? 3 - i : i;
                        var at = new double[3];
                        at[axis] = sign < 0 ? low[axis] : high[axis];
                        at[a] = corner == 1 || corner == 2 ? high[a] : low[a];
                        at[b] = corner >= 2 ? high[b] : low[b];
                        double u = patternWidth > 0.0 ? at[0] / patternWidth + 0.5 : at[a];
                        double v = patternWidth > 0.0 ? at[1] / patternDepth + 0.5 : at[b];
                        mesh.Add(new Vector3D(at[0], at[1], at[2]), Along(axis) * sign, u, v);
                    }
                    mesh.AddTriangle(first, first + 1, first + 2);
                    mesh.AddTriangle(first, first + 2, first + 3);
                }
        }

        // A superellipsoid.
        static MeshData Cushion(Box box, double roundness, int across)
        {
            var half = new Vector3D((box.X1 - box.X0) / 2.0, (box.Y1 - box.Y0) / 2.0, (box.Z1 - box.Z0) / 2.0);
            var middle = new Vector3D((box.X1 + box.X0) / 2.0, (box.Y1 + box.Y0) / 2.0, (box.Z1 + box.Z0) / 2.0);
            var mesh = new MeshData();
            for (int row = 0; row <= across; row++)
            {
                double tilt = Step(-Math.PI / 2.0, Math.PI / 2.0, row, across);
                for (int column = 0; column <= 2 * across; column++)
                {
                    double turn = Step(-Math.PI, Math.PI, column, 2 * across);
                    var direction = new Vector3D(
                        Math.Cos(tilt) * Math.Cos(turn), Math.Cos(tilt) * Math.Sin(turn), Math.Sin(tilt));
                    double flat = Power(Math.Cos(tilt), roundness);
                    var point = new Vector3D(
                        flat * Power(Math.Cos(turn), roundness), flat * Power(Math.Sin(turn), roundness),
                        Power(Math.Sin(tilt), roundness));
                    double steep = 2.0 / roundness - 1.0;
                    // The normal of |x|^(2/e) + |y|^(2/e) + |z|^(2/e) = 1, with some of the sphere's for smooth edges.
                    Vector3D normal = new Vector3D(
                        Power(point.X, steep) / half.X, Power(point.Y, steep) / half.Y, Power(point.Z, steep) / half.Z)
                        + direction * 0.15;
                    Vector3D at = new Vector3D(point.X * half.X, point.Y * half.Y, point.Z * half.Z) + middle;
                    mesh.Add(at, normal.Unit, at.X + at.Z * 0.5, at.Y + at.Z * 0.5);
                }
            }
            AddCushionTriangles(mesh, across);
            return mesh;
        }

        static void AddCushionTriangles(MeshData mesh, int across)
        {
            int columns = 2 * across + 1;
            for (int half = 0; half < 2; half++)
                for (int row = 0; row < across; row++)
                    for (int column = 0; column + 1 < columns; column++)
                    {
                        int a = row * columns + column;
                        int opposite = a + columns + 1;
                        mesh.AddTriangle(a, half == 0 ? a + 1 : opposite, half == 0 ? opposite : a + columns);
                    }
        }

        // As numpy's linspace, to the last bit: a small power makes much of a cosine that is nearly 0.
        static double Step(double start, double stop, int i, int steps)
        {
            return i == steps ? stop : i * ((stop - start) / steps) + start;
        }

        static double Power(double value, double exponent) { return Math.Sign(value) * Math.Pow(Math.Abs(value), exponent); }

        static Vector3D Along(int axis)
        {
            return new Vector3D(axis == 0 ? 1.0 : 0.0, axis == 1 ? 1.0 : 0.0, axis == 2 ? 1.0 : 0.0);
        }

        static int Segments(JsonValue sizes, int otherwise)
        {
            return sizes.Has("segments") ? (int)sizes["segments"].AsInteger : otherwise;
        }

        static double[] Pairs(JsonValue rows)
        {
            var numbers = new List<double>();
            foreach (JsonValue row in rows.Items)
                numbers.AddRange(row.AsNumbers);
            return numbers.ToArray();
        }

        static Vector3D[] Path(JsonValue rows)
        {
            var points = new List<Vector3D>();
            foreach (JsonValue row in rows.Items)
                points.Add(Vector3D.From(row));
            return points.ToArray();
        }
    }
}
