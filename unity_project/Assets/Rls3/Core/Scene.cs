using System.Collections.Generic;

namespace Rls3.Core
{
    /// <summary>An object in a scene: base center in world meters (z up), yaw in radians.</summary>
    public sealed class PlacedObject
    {
        public string Kind { get; }
        public Vector3D Position { get; }
        public double Yaw { get; }

        public PlacedObject(string kind, Vector3D position, double yaw)
        {
            Kind = kind;
            Position = position;
            Yaw = yaw;
        }
    }

    /// <summary>An edit in plain units: put an object of a kind into a slot at (x, y), let go from a level 0..1.</summary>
    public sealed class Edit
    {
        public int Slot { get; }
        public string Kind { get; }
        public double X { get; }
        public double Y { get; }
        public double Level { get; }
        public double Yaw { get; }

        public Edit(int slot, string kind, double x, double y, double level, double yaw)
        {
            Slot = slot;
            Kind = kind;
            X = x;
            Y = y;
            Level = level;
            Yaw = yaw;
        }
    }

    /// <summary>The outcome of an edit: the object as it comes to rest, or the reason why there is none.</summary>
    public struct Placement
    {
        /// <summary>Null when the edit is not feasible.</summary>
        public PlacedObject Placed { get; }
        /// <summary>Null when the edit is feasible; else the value of Python's <c>Reason</c>.</summary>
        public string Reason { get; }

        public Placement(PlacedObject placed)
        {
            Placed = placed;
            Reason = null;
        }

        public Placement(string reason)
        {
            Placed = null;
            Reason = reason;
        }

        public bool Feasible { get { return Reason == null; } }
    }
}
