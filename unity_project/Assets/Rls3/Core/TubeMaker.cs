using System;

namespace Rls3.Core
{
    /// <summary>A closed pipe along a polyline, as <c>meshes.tube</c>: one radius, or one per point.</summary>
    public static class TubeMaker
    {
        public static MeshData Tube(Vector3D[] path, JsonValue radius, int segments)
        {
            int count = path.Length;
            double[] radii = Radii(radius, count);
            var forward = new Vector3D[count - 1];
            var slopes = new double[count - 1];
            for (int i = 0; i + 1 < count; i++)
            {
                Vector3D step = path[i + 1] - path[i];
                forward[i] = step.Unit;
                slopes[i] = (radii[i + 1] - radii[i]) / step.Length;
            }
            Vector3D side = forward[0].Cross(LeastAxis(forward[0]));
            var rings = new Vector3D[count][];
            var normals = new Vector3D[count][];
            for (int i = 0; i < count; i++)
            {
                Vector3D before = forward[Math.Max(i - 1, 0)], after = forward[Math.Min(i, count - 2)];
                Vector3D tangent = (before + after).Unit;
                bool inner = i > 0 && i < count - 1;
                Vector3D bend = inner ? (after - before).Unit : new Vector3D(0.0, 0.0, 0.0);
                // At a bend a ring is cut across at half the angle, so it is longer on the bend's plane.
                double stretch = inner ? 1.0 / Math.Max(after.Dot(tangent), 0.5) - 1.0 : 0.0;
                double lean = (slopes[Math.Max(i - 1, 0)] + slopes[Math.Min(i, count - 2)]) / 2.0;
                // Carrying the side vector along the path keeps the pipe from twisting at its bends.
                side = (side - tangent * side.Dot(tangent)).Unit;
                rings[i] = new Vector3D[segments + 1];
                normals[i] = new Vector3D[segments + 1];
                for (int k = 0; k <= segments; k++)
                {
                    double turn = 2.0 * Math.PI * k / segments;
                    Vector3D around = side * Math.Cos(turn) + tangent.Cross(side) * Math.Sin(turn);
                    rings[i][k] = path[i] + (around + bend * (around.Dot(bend) * stretch)) * radii[i];
                    normals[i][k] = (around - tangent * lean).Unit;
                }
            }
            MeshData mesh = Wall(rings, normals, segments);
            AddEnd(mesh, rings[0], path[0], forward[0] * -1.0, true);
            AddEnd(mesh, rings[count - 1], path[count - 1], forward[count - 2], false);
            return mesh;
        }

        static double[] Radii(JsonValue radius, int count)
        {
            if (radius.Type == JsonType.List)
                return radius.AsNumbers;
            var radii = new double[count];
            for (int i = 0; i < count; i++)
                radii[i] = radius.AsNumber;
            return radii;
        }

        // The axis that the vector points along least; of equal ones the first.
        static Vector3D LeastAxis(Vector3D v)
        {
            double x = Math.Abs(v.X), y = Math.Abs(v.Y), z = Math.Abs(v.Z);
            if (x <= y && x <= z)
                return new Vector3D(1.0, 0.0, 0.0);
            return y <= z ? new Vector3D(0.0, 1.0, 0.0) : new Vector3D(0.0, 0.0, 1.0);
        }

        static MeshData Wall(Vector3D[][] rings, Vector3D[][] normals, int segments)
        {
            var mesh = new MeshData();
            for (int k = 0; k <= segments; k++)
                for (int i = 0; i < rings.Length; i++)
                    mesh.Add(rings[i][k], normals[i][k], (double)i / (rings.Length - 1), (double)k / segments);
            mesh.AddSheet(segments + 1, rings.Length);
            return mesh;
        }

        static void AddEnd(MeshData mesh, Vector3D[] ring, Vector3D middle, Vector3D normal, bool backwards)
        {
            for (int i = 0; i < ring.Length; i++)
            {
                mesh.Add(ring[backwards ? ring.Length - 1 - i : i], normal, 0.0, 0.0);
                mesh.Add(middle, normal, 0.0, 0.0);
            }
            mesh.AddSheet(ring.Length, 2);
        }
    }
}
