using Rls3.Core;
using UnityEngine;
using UnityEngine.Rendering;

namespace Rls3.Unity
{
    /// <summary>The core's numbers as Unity's types.</summary>
    public static class Convert
    {
        /// <summary>A point or a size of rls3_gym's world in Unity's.</summary>
        public static Vector3 Point(Vector3D p)
        {
            Vector3D turned = UnityAxes.Point(p);
            return new Vector3((float)turned.X, (float)turned.Y, (float)turned.Z);
        }

        public static Quaternion Rotation(Vector3D eulerDeg)
        {
            return Quaternion.Euler((float)eulerDeg.X, (float)eulerDeg.Y, (float)eulerDeg.Z);
        }

        /// <summary>A color in sRGB, 0..1.</summary>
        public static Color Srgb(Vector3D c) { return new Color((float)c.X, (float)c.Y, (float)c.Z); }

        public static Mesh ToMesh(MeshData data, string name)
        {
            int count = data.Vertices.Count;
            var vertices = new Vector3[count];
            var normals = new Vector3[count];
            var uv = new Vector2[count];
            for (int i = 0; i < count; i++)
            {
                vertices[i] = Point(data.Vertices[i]);
                normals[i] = Point(data.Normals[i]);
                uv[i] = new Vector2((float)data.U[i], (float)data.V[i]);
            }
            var corners = new int[data.Corners.Count];
            for (int i = 0; i < corners.Length; i += 3)
            {
                // Unity's front faces are wound clockwise.
                corners[i] = data.Corners[i];
                corners[i + 1] = data.Corners[i + 2];
                corners[i + 2] = data.Corners[i + 1];
            }
            var mesh = new Mesh { name = name, indexFormat = IndexFormat.UInt32 };
            mesh.SetVertices(vertices);
            mesh.SetNormals(normals);
            mesh.SetUVs(0, uv);
            mesh.SetTriangles(corners, 0);
            mesh.RecalculateBounds();
            return mesh;
        }
    }
}
