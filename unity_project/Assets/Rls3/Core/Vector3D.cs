using System;

namespace Rls3.Core
{
    /// <summary>Three doubles: meters, in the world of rls3_gym (z up) or in the camera frame (y up).</summary>
    public struct Vector3D
    {
        public double X { get; }
        public double Y { get; }
        public double Z { get; }

        public Vector3D(double x, double y, double z)
        {
            X = x;
            Y = y;
            Z = z;
        }

        /// <summary>From a JSON list of three numbers.</summary>
        public static Vector3D From(JsonValue value)
        {
            double[] numbers = value.AsNumbers;
            if (numbers.Length != 3)
                throw new JsonException("three numbers are needed, not " + numbers.Length);
            return new Vector3D(numbers[0], numbers[1], numbers[2]);
        }

        public JsonValue ToJson() { return JsonValue.List(X, Y, Z); }

        public static Vector3D operator +(Vector3D a, Vector3D b) { return new Vector3D(a.X + b.X, a.Y + b.Y, a.Z + b.Z); }

        public static Vector3D operator -(Vector3D a, Vector3D b) { return new Vector3D(a.X - b.X, a.Y - b.Y, a.Z - b.Z); }

        public static Vector3D operator *(Vector3D a, double factor)
        {
            return new Vector3D(a.X * factor, a.Y * factor, a.Z * factor);
        }

        public double Dot(Vector3D other) { return X * other.X + Y * other.Y + Z * other.Z; }

        public Vector3D Cross(Vector3D b) { return new Vector3D(Y * b.Z - Z * b.Y, Z * b.X - X * b.Z, X * b.Y - Y * b.X); }

        public double Length { get { return Math.Sqrt(Dot(this)); } }

        /// <summary>The same direction at length 1.</summary>
        public Vector3D Unit { get { return this * (1.0 / Math.Max(Length, 1e-12)); } }
    }
}
