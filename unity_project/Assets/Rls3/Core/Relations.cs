using System;
using System.Collections.Generic;

namespace Rls3.Core
{
    /// <summary>The six spatial terms, as in <c>scene/relations.py</c>. Antonyms are neighbors.</summary>
    public enum Term { Left, Right, Front, Behind, Above, Below }

    /// <summary>One of the 26 relation cells: a horizontal sector (0..7, -1 for none) and a vertical sign.</summary>
    public struct Relation
    {
        public const int None = -1;

        // Sector k, counter-clockwise from "right", as the terms it is described with.
        static readonly Term[][] Sectors =
        {
            new[] { Term.Right }, new[] { Term.Behind, Term.Right }, new[] { Term.Behind },
            new[] { Term.Behind, Term.Left }, new[] { Term.Left }, new[] { Term.Front, Term.Left },
            new[] { Term.Front }, new[] { Term.Front, Term.Right },
        };

        public int Horizontal { get; }
        public int Vertical { get; }

        public Relation(int horizontal, int vertical)
        {
            if (horizontal == None && vertical == 0)
                throw new ArgumentException("a relation needs a horizontal sector or a vertical term");
            Horizontal = horizontal;
            Vertical = vertical;
        }

        /// <summary>Cell 0..25, in the order of Python's <c>RELATIONS</c>: sectors level, above and above alone, below.</summary>
        public static Relation FromIndex(int index)
        {
            if (index < 8)
                return new Relation(index, 0);
            int sector = (index - 8) % 9;
            return new Relation(sector == 8 ? None : sector, index < 17 ? 1 : -1);
        }

        /// <summary>The terms in the order in which captions use them: vertical, depth, lateral.</summary>
        public IReadOnlyList<Term> Terms
        {
            get
            {
                var terms = new List<Term>();
                if (Vertical != 0)
                    terms.Add(Vertical > 0 ? Term.Above : Term.Below);
                if (Horizontal != None)
                    terms.AddRange(Sectors[Horizontal]);
                return terms;
            }
        }

        /// <summary>Number of terms, 1 to 3.</summary>
        public int Complexity { get { return Terms.Count; } }
    }

    /// <summary>
    /// The relation of A to B from their offset A - B in the gravity-aligned camera frame (x right, y up, z away),
    /// meters. Same rule as <c>scene/relations.py</c>, boundaries included.
    /// </summary>
    public sealed class RelationRule
    {
        const double DegreesPerRadian = 180.0 / Math.PI;

        readonly double _band;
        readonly double _cone;
        readonly double _sector;

        /// <param name="constants">Of the world file.</param>
        public RelationRule(Constants constants)
        {
            _band = constants.ElevationBandDeg;
            _cone = 90.0 - constants.VerticalConeDeg;
            _sector = constants.SectorDeg;
        }

        /// <summary>The relation cell 0..25 of an offset, or -1 for no offset at all.</summary>
        public int IndexOf(Vector3D offset)
        {
            double x = offset.X, y = offset.Y, z = offset.Z;
            if (x == 0.0 && y == 0.0 && z == 0.0)
                return -1;
            double elevation = Elevation(offset);
            int start = elevation >= _band ? 8 : elevation <= -_band ? 17 : 0;
            if (Math.Abs(elevation) > _cone)
                return start + 8;
            // The half turn [180, 360) mirrors the other one, so that B to A is always the opposite of A to B.
            bool mirrored = z < 0.0 || (z == 0.0 && x < 0.0);
            double sign = mirrored ? -1.0 : 1.0;
            double azimuth = Math.Atan2(z * sign, x * sign) * DegreesPerRadian;
            int sector = (int)Math.Floor((azimuth + _sector / 2.0) / _sector);
            return start + (sector + (mirrored ? 4 : 0)) % 8;
        }

        /// <summary>Angular distance to the nearest boundary at which the relation would change, degrees.</summary>
        public double MarginDeg(Vector3D offset)
        {
            double elevation = Math.Abs(Elevation(offset));
            double vertical = Math.Min(Math.Abs(elevation - _band), Math.Abs(elevation - _cone));
            if (elevation > _cone)
                return vertical;
            double within = (Math.Atan2(offset.Z, offset.X) * DegreesPerRadian + _sector / 2.0) % _sector;
            if (within < 0.0)
                within += _sector;
            return Math.Min(vertical, Math.Min(within, _sector - within));
        }

        static double Elevation(Vector3D offset)
        {
            return Math.Atan2(offset.Y, Hypot(offset.X, offset.Z)) * DegreesPerRadian;
        }

        // Squares of tiny numbers are 0.
        static double Hypot(double a, double b)
        {
            double great = Math.Max(Math.Abs(a), Math.Abs(b)), small = Math.Min(Math.Abs(a), Math.Abs(b));
            return great == 0.0 ? 0.0 : great * Math.Sqrt(1.0 + small / great * (small / great));
        }
    }
}
