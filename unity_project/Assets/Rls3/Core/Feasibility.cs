using System;
using System.Collections.Generic;
using System.Linq;

namespace Rls3.Core
{
    /// <summary>
    /// Whether an edit is feasible: the rules of <c>scene/arrangement.py</c> and <c>scene/rules.py</c>, with the same
    /// operations in the same order, so that both sides agree to the last bit. Meters, world frame, z up.
    /// </summary>
    public sealed class Feasibility
    {
        public const string OutsideRoom = "outside_room";
        public const string NoSupport = "no_support";
        public const string OverlapsFurniture = "overlaps_furniture";
        public const string OverlapsObject = "overlaps_object";
        public const string OutOfView = "out_of_view";

        readonly World _world;
        readonly Constants _rules;

        public Feasibility(World world)
        {
            _world = world;
            _rules = world.Constants;
        }

        /// <summary>What becomes of an edit of a room with these objects in its slots.</summary>
        public Placement Place(Layout room, IReadOnlyList<PlacedObject> objects, Edit edit)
        {
            ObjectKind kind = _world.Kind(edit.Kind);
            double x = edit.X, y = edit.Y;
            double[] stage = room.Stage;
            if (!(stage[0] <= x && x <= stage[1] && stage[2] <= y && y <= stage[3]))
                return new Placement(OutsideRoom);
            double release = edit.Level * _rules.ReleaseHeight;
            List<Surface> reachable = room.Surfaces
                .Where(s => s.Z <= release && Carries(s, kind.Radius, x, y)).OrderByDescending(s => s.Z).ToList();
            if (reachable.Count == 0)
                return new Placement(NoSupport);
            Surface surface = reachable.FirstOrDefault(s => HasRoom(room, s, kind, x, y));
            if (surface == null)
                return new Placement(OverlapsFurniture);
            var placed = new PlacedObject(edit.Kind, new Vector3D(x, y, surface.Z), edit.Yaw);
            string reason = Check(room, objects, edit.Slot, placed, kind);
            return reason == null ? new Placement(placed) : new Placement(reason);
        }

        string Check(
            Layout room, IReadOnlyList<PlacedObject> objects, int slot, PlacedObject placed, ObjectKind kind)
        {
            if (!WithinWalls(room, kind.Radius, placed.Position))
                return OutsideRoom;
            for (int other = 0; other < objects.Count; other++)
                if (other != slot && !ClearOf(placed, kind, objects[other], _world.Kind(objects[other].Kind)))
                    return OverlapsObject;
            return InView(room.Camera, placed.Position, kind.Height) ? null : OutOfView;
        }

        bool HasRoom(Layout room, Surface surface, ObjectKind kind, double x, double y)
        {
            if (kind.Height > surface.Clearance)
                return false;
            return !room.Solids.Any(s => LevelWith(s, kind.Height, surface.Z) && ReachesOver(s, kind.Radius, x, y));
        }

        bool Carries(Surface surface, double radius, double x, double y)
        {
            // The floor goes on beyond the stage.
            double inset = surface.Z > 0.0 ? (1.0 - _rules.Overhang) * radius : 0.0;
            return surface.X0 + inset <= x && x <= surface.X1 - inset
                && surface.Y0 + inset <= y && y <= surface.Y1 - inset;
        }

        bool LevelWith(Box solid, double height, double z)
        {
            return z < solid.Z1 - _rules.Contact && z + height > solid.Z0 + _rules.Contact;
        }

        bool InView(CameraFrame camera, Vector3D bottom, double height)
        {
            return PointInView(camera, bottom)
                && PointInView(camera, new Vector3D(bottom.X, bottom.Y, bottom.Z + height));
        }

        bool PointInView(CameraFrame camera, Vector3D point)
        {
            Vector3D seen = camera.AlongAxes(point);
            double limit = _rules.ViewLimit * camera.HalfWidth * seen.Z;
            return seen.Z > _rules.Nearest && -limit <= seen.X && seen.X <= limit && -limit <= seen.Y && seen.Y <= limit;
        }

        // The front of the room is open.
        static bool WithinWalls(Layout room, double radius, Vector3D at)
        {
            return room.X0 + radius <= at.X && at.X <= room.X1 - radius && at.Y <= room.Y1 - radius;
        }

        static bool ReachesOver(Box solid, double radius, double x, double y)
        {
            double dx = x - Math.Min(Math.Max(x, solid.X0), solid.X1);
            double dy = y - Math.Min(Math.Max(y, solid.Y0), solid.Y1);
            return dx * dx + dy * dy < radius * radius;
        }

        static bool ClearOf(PlacedObject one, ObjectKind kind, PlacedObject other, ObjectKind otherKind)
        {
            double dx = one.Position.X - other.Position.X, dy = one.Position.Y - other.Position.Y;
            double reach = kind.Radius + otherKind.Radius;
            return dx * dx + dy * dy >= reach * reach
                || one.Position.Z >= other.Position.Z + otherKind.Height
                || other.Position.Z >= one.Position.Z + kind.Height;
        }
    }
}
