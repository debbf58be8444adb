using Rls3.Core;
using UnityEngine;
using UnityEngine.Rendering;

namespace Rls3.Unity
{
    /// <summary>From rls3_gym's world (right-handed, z up) to Unity's (left-handed, y up).</summary>
    public static class Convert
    {
        public static Vector3 Point(Vector3D p) { return new Vector3((float)p.X, (float)p.Z, (float)p.Y); }

        /// <summary>A color in sRGB, 0..1.</summary>
        public static Color Srgb(Vector3D c) { return new Color((float)c.X, (float)c.Y, (float)c.Z); }

        /// <summary>A turn counter-clockwise seen from above, degrees.</summary>
        public static Quaternion Turn(double degrees) { return Quaternion.Euler(0f, -(float)degrees, 0f); }

        public static Quaternion Yaw(double radians) { return Turn(radians * 180.0 / System.Math.PI); }

        public static Quaternion Look(CameraFrame camera)
        {
            return Quaternion.Euler(-(float)camera.Pitch * Mathf.Rad2Deg, (float)camera.Heading * Mathf.Rad2Deg, 0f);
        }

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
