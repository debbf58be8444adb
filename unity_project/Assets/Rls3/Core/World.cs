using System;
using System.Collections.Generic;
using System.Security.Cryptography;
using System.Text;

namespace Rls3.Core
{
    /// <summary>Numbers of the rules; the world file has them from the Python package.</summary>
    public sealed class Constants
    {
        public int Slots { get; }
        public double ElevationBandDeg { get; }
        public double VerticalConeDeg { get; }
        public double SectorDeg { get; }
        public double ReleaseHeight { get; }
        public double ViewLimit { get; }
        public double Nearest { get; }
        public double Overhang { get; }
        public double Contact { get; }

        public Constants(JsonValue value)
        {
            Slots = (int)value["slots"].AsInteger;
            ElevationBandDeg = value["elevation_band_deg"].AsNumber;
            VerticalConeDeg = value["vertical_cone_deg"].AsNumber;
            SectorDeg = value["sector_deg"].AsNumber;
            ReleaseHeight = value["release_height"].AsNumber;
            ViewLimit = value["view_limit"].AsNumber;
            Nearest = value["nearest"].AsNumber;
            Overhang = value["overhang"].AsNumber;
            Contact = value["contact"].AsNumber;
        }
    }

    /// <summary>A kind of object. Radius of the footprint and height in meters.</summary>
    public sealed class ObjectKind
    {
        public string Name { get; }
        public double Radius { get; }
        public double Height { get; }
        public IReadOnlyList<ShapedPart> Parts { get; }

        public ObjectKind(JsonValue value)
        {
            Name = value["name"].AsText;
            Radius = value["radius"].AsNumber;
            Height = value["height"].AsNumber;
            var parts = new List<ShapedPart>();
            foreach (JsonValue part in value["parts"].Items)
                parts.Add(ShapedPart.OfObject(part));
            Parts = parts;
        }
    }

    /// <summary>
    /// The world file: all rooms and kinds of objects, written by <c>rls3 export-world</c> from the YAML that the
    /// embedded backend uses.
    /// </summary>
    public sealed class World
    {
        public const string Format = "rls3-world";
        public const int FormatVersion = 1;

        readonly Dictionary<string, ObjectKind> _kinds = new Dictionary<string, ObjectKind>();
        readonly Dictionary<string, JsonValue> _rooms = new Dictionary<string, JsonValue>();
        readonly Dictionary<string, Layout> _built = new Dictionary<string, Layout>();

        /// <summary>First 16 hex digits of the file's SHA-256: Python must hold the same file.</summary>
        public string Digest { get; }
        public Constants Constants { get; }
        public Captions Captions { get; }
        /// <summary>Sorted by name, as an action counts them.</summary>
        public IReadOnlyList<ObjectKind> Kinds { get; }
        public IReadOnlyList<string> LayoutKeys { get; }
        /// <summary>Names of the textures that parts may have.</summary>
        public IReadOnlyList<string> Textures { get; }

        /// <summary>Reads the file's text. Throws <c>JsonException</c> for another file or another version.</summary>
        public World(string text)
        {
            JsonValue file = JsonReader.Read(text);
            if (!file.Has("format") || file["format"].AsText != Format)
                throw new JsonException("this is no world file; `rls3 export-world` writes one");
            if (file["version"].AsInteger != FormatVersion)
                throw new JsonException(
                    "world file of format " + file["version"] + "; this player reads " + FormatVersion);
            Digest = DigestOf(text);
            Constants = new Constants(file["constants"]);
            Captions = new Captions(file["phrases"]);
            var textures = new List<string>();
            foreach (JsonValue name in file["textures"].Items)
                textures.Add(name.AsText);
            Textures = textures;
            var kinds = new List<ObjectKind>();
            foreach (JsonValue kind in file["kinds"].Items)
                kinds.Add(new ObjectKind(kind));
            foreach (ObjectKind kind in kinds)
                _kinds.Add(kind.Name, kind);
            Kinds = kinds;
            JsonValue layouts = file["layouts"];
            LayoutKeys = layouts.Keys;
            foreach (string key in layouts.Keys)
                _rooms.Add(key, layouts[key]);
        }

        public bool HasKind(string name) { return _kinds.ContainsKey(name); }

        public ObjectKind Kind(string name) { return _kinds[name]; }

        public bool HasLayout(string key) { return _rooms.ContainsKey(key); }

        /// <summary>The room of that key, made when first asked for.</summary>
        public Layout Layout(string key)
        {
            Layout layout;
            if (!_built.TryGetValue(key, out layout))
            {
                layout = new Layout(key, _rooms[key]);
                _built.Add(key, layout);
            }
            return layout;
        }

        static string DigestOf(string text)
        {
            using (SHA256 hash = SHA256.Create())
            {
                byte[] bytes = hash.ComputeHash(new UTF8Encoding(false).GetBytes(text));
                return BitConverter.ToString(bytes, 0, 8).Replace("-", "").ToLowerInvariant();
            }
        }
    }
}
