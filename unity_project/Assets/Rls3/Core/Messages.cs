using System;
using System.Collections.Generic;

namespace Rls3.Core
{
    /// <summary>Names that both sides have agreed on: see PROTOCOL.md.</summary>
    public static class Protocol
    {
        public const int Schema = 1;
        public const string Channel = "7c1f3f6a-9d3b-4b5e-8f2a-0c6b1d2e3f40";
        public const string Behavior = "RLS3";
        public const string CameraSensor = "camera";
        public const string IdsSensor = "ids";
        public const string DepthSensor = "depth";
        public const string PositionsSensor = "positions";
        /// <summary>Command numbers travel as float32 modulo this.</summary>
        public const int NumberRange = 65536;

        public static readonly string[] Qualities = { "low", "medium", "high" };
    }

    /// <summary>What a command asked for can't be done; <c>Problem</c> is the word of PROTOCOL.md for why.</summary>
    public sealed class CommandException : Exception
    {
        public string Problem { get; }
        public long Number { get; }

        public CommandException(string problem, long number, string detail) : base(detail)
        {
            Problem = problem;
            Number = number;
        }
    }

    /// <summary>Command <c>show</c>: the whole scene.</summary>
    public sealed class Show
    {
        public long Number { get; }
        public string Layout { get; }
        public long Seed { get; }
        public CameraFrame Camera { get; }
        public string Quality { get; }
        public int Size { get; }
        public IReadOnlyList<PlacedObject> Objects { get; }

        public Show(
            long number, string layout, long seed, CameraFrame camera, string quality, int size,
            IReadOnlyList<PlacedObject> objects)
        {
            Number = number;
            Layout = layout;
            Seed = seed;
            Camera = camera;
            Quality = quality;
            Size = size;
            Objects = objects;
        }

        /// <summary>The same scene after an edit.</summary>
        public Show Edited(long number, IReadOnlyList<PlacedObject> objects)
        {
            return new Show(number, Layout, Seed, Camera, Quality, Size, objects);
        }
    }

    /// <summary>A command as it came: a <c>show</c>, or an <c>edit</c> when <c>Show</c> is null.</summary>
    public sealed class Command
    {
        const int GreatestSize = 4096;

        static readonly string[] EditKeys = { "schema", "type", "number" };
        static readonly string[] ShowKeys =
        {
            "schema", "type", "number", "layout", "seed", "camera", "quality", "size", "objects",
        };
        static readonly string[] CameraKeys = { "eye", "heading", "pitch", "fov_deg" };
        static readonly string[] ObjectKeys = { "kind", "position", "yaw" };

        public long Number { get; }
        public Show Show { get; }

        Command(long number, Show show)
        {
            Number = number;
            Show = show;
        }

        /// <summary>Reads a command. Throws <c>CommandException</c> for another schema, or anything that is no command.</summary>
        /// <param name="slots">Greatest number of objects.</param>
        public static Command Read(string text, int slots)
        {
            long number = 0;
            try
            {
                JsonValue value = JsonReader.Read(text);
                if (value.Has("number") && value["number"].Type == JsonType.Integer)
                    number = Math.Max(value["number"].AsInteger, 0);
                JsonValue schema = value["schema"];
                if (schema.Type != JsonType.Integer || schema.AsInteger != Protocol.Schema)
                    throw new CommandException(
                        "schema", number, "command of message schema " + schema + "; this player speaks " + Protocol.Schema);
                string type = value["type"].AsText;
                if (type == "edit")
                {
                    Expect(value, EditKeys);
                    return new Command(AtLeast(1, value["number"], "number"), null);
                }
                if (type != "show")
                    throw new JsonException("unknown type \"" + type + "\"");
                Expect(value, ShowKeys);
                return new Command(AtLeast(1, value["number"], "number"), ReadShow(value, slots));
            }
            catch (JsonException error)
            {
                throw new CommandException("command", number, error.Message);
            }
        }

        static Show ReadShow(JsonValue value, int slots)
        {
            Expect(value["camera"], CameraKeys);
            string quality = value["quality"].AsText;
            if (Array.IndexOf(Protocol.Qualities, quality) < 0)
                throw new JsonException("unknown quality \"" + quality + "\"");
            long size = AtLeast(1, value["size"], "size");
            if (size > GreatestSize)
                throw new JsonException("size: at most " + GreatestSize);
            if (value["objects"].Items.Count > slots)
                throw new JsonException("objects: at most " + slots);
            var objects = new List<PlacedObject>();
            foreach (JsonValue row in value["objects"].Items)
            {
                Expect(row, ObjectKeys);
                objects.Add(new PlacedObject(
                    row["kind"].AsText, Vector3D.From(row["position"]), row["yaw"].AsNumber));
            }
            return new Show(
                value["number"].AsInteger, value["layout"].AsText, AtLeast(0, value["seed"], "seed"),
                CameraFrame.From(value["camera"]), quality, (int)size, objects);
        }

        static long AtLeast(long least, JsonValue value, string key)
        {
            long number = value.AsInteger;
            if (number < least)
                throw new JsonException(key + ": at least " + least);
            return number;
        }

        // Missing keys are found when they are read.
        static void Expect(JsonValue value, string[] keys)
        {
            foreach (string key in value.Keys)
                if (Array.IndexOf(keys, key) < 0)
                    throw new JsonException("unknown key \"" + key + "\"");
            foreach (string key in keys)
                if (!value.Has(key))
                    throw new JsonException("key \"" + key + "\" is missing");
        }
    }

    /// <summary>Who shows the pictures: the end of every <c>state</c>.</summary>
    public sealed class PlayerIdentity
    {
        public string Name { get; }
        public string Version { get; }
        public string Build { get; }
        public string Device { get; }

        public PlayerIdentity(string name, string version, string build, string device)
        {
            Name = name;
            Version = version;
            Build = build;
            Device = device;
        }
    }
}
