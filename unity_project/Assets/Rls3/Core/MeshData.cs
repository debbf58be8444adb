using System;
using System.Collections.Generic;

namespace Rls3.Core
{
    /// <summary>Triangles in meters, z up; normals point outwards, uv counts repeats of the texture.</summary>
    public sealed class MeshData
    {
        const double LeastArea = 1e-10;

        readonly List<Vector3D> _vertices = new List<Vector3D>();
        readonly List<Vector3D> _normals = new List<Vector3D>();
        readonly List<double> _u = new List<double>();
        readonly List<double> _v = new List<double>();
        readonly List<int> _corners = new List<int>();

        public IReadOnlyList<Vector3D> Vertices { get { return _vertices; } }
        public IReadOnlyList<Vector3D> Normals { get { return _normals; } }
        public IReadOnlyList<double> U { get { return _u; } }
        public IReadOnlyList<double> V { get { return _v; } }
        /// <summary>Three indices into the vertices for each triangle.</summary>
        public IReadOnlyList<int> Corners { get { return _corners; } }

        public int Add(Vector3D vertex, Vector3D normal, double u, double v)
        {
            _vertices.Add(vertex);
            _normals.Add(normal);
            _u.Add(u);
            _v.Add(v);
            return _vertices.Count - 1;
        }

        public void AddTriangle(int a, int b, int c)
        {
            _corners.Add(a);
            _corners.Add(b);
            _corners.Add(c);
        }

        /// <summary>Joins the last <c>rows * columns</c> vertices, row by row, to a sheet without its empty triangles.</summary>
        public void AddSheet(int rows, int columns)
        {
            int first = _vertices.Count - rows * columns;
            for (int half = 0; half < 2; half++)
                for (int row = 0; row + 1 < rows; row++)
                    for (int column = 0; column + 1 < columns; column++)
                    {
                        int a = first + row * columns + column;
                        int opposite = a + columns + 1;
                        int b = half == 0 ? a + columns : opposite;
                        int c = half == 0 ? opposite : a + 1;
                        Vector3D side = _vertices[b] - _vertices[a];
                        if (side.Cross(_vertices[c] - _vertices[a]).Length > LeastArea)
                            AddTriangle(a, b, c);
                    }
        }

        public void Append(MeshData other)
        {
            int first = _vertices.Count;
            _vertices.AddRange(other._vertices);
            _normals.AddRange(other._normals);
            _u.AddRange(other._u);
            _v.AddRange(other._v);
            foreach (int corner in other._corners)
                _corners.Add(first + corner);
        }

        /// <summary>The same triangles, each with its own corners and its flat normal.</summary>
        public MeshData Faceted()
        {
            var mesh = new MeshData();
            for (int i = 0; i < _corners.Count; i += 3)
            {
                int a = _corners[i], b = _corners[i + 1], c = _corners[i + 2];
                Vector3D normal = (_vertices[b] - _vertices[a]).Cross(_vertices[c] - _vertices[a]).Unit;
                int first = mesh.Add(_vertices[a], normal, _u[a], _v[a]);
                mesh.Add(_vertices[b], normal, _u[b], _v[b]);
                mesh.Add(_vertices[c], normal, _u[c], _v[c]);
                mesh.AddTriangle(first, first + 1, first + 2);
            }
            return mesh;
        }

        /// <summary>The mesh scaled, then turned about x, y and z (in this order, fixed axes), then moved.</summary>
        public MeshData Transformed(Vector3D translate, Vector3D rotateDeg, Vector3D scale)
        {
            var mesh = new MeshData();
            for (int i = 0; i < _vertices.Count; i++)
            {
                Vector3D v = _vertices[i], n = _normals[i];
                var scaled = new Vector3D(v.X * scale.X, v.Y * scale.Y, v.Z * scale.Z);
                Vector3D normal = new Vector3D(n.X / scale.X, n.Y / scale.Y, n.Z / scale.Z).Unit;
                mesh.Add(Turned(scaled, rotateDeg) + translate, Turned(normal, rotateDeg), _u[i], _v[i]);
            }
            mesh._corners.AddRange(_corners);
            return mesh;
        }

        static Vector3D Turned(Vector3D v, Vector3D rotateDeg)
        {
            double c = Cos(rotateDeg.X), s = Sin(rotateDeg.X);
            v = new Vector3D(v.X, c * v.Y - s * v.Z, s * v.Y + c * v.Z);
            c = Cos(rotateDeg.Y);
            s = Sin(rotateDeg.Y);
            v = new Vector3D(c * v.X + s * v.Z, v.Y, c * v.Z - s * v.X);
            c = Cos(rotateDeg.Z);
            s = Sin(rotateDeg.Z);
            return new Vector3D(c * v.X - s * v.Y, s * v.X + c * v.Y, v.Z);
        }

        static double Cos(double degrees) { return Math.Cos(degrees * Math.PI / 180.0); }

        static double Sin(double degrees) { return Math.Sin(degrees * Math.PI / 180.0); }
    }
}
