using System;
using System.Collections.Generic;

namespace Rls3.Core
{
    /// <summary>
    /// One conversation with Python: takes commands and actions, keeps the scene they make, and writes the answer that
    /// goes with each observation. Knows nothing of the engine that shows the scene.
    /// </summary>
    public sealed class Session
    {
        readonly World _world;
        readonly PlayerIdentity _player;
        readonly Feasibility _feasibility;
        readonly RelationRule _relations;

        Command _pending;
        CommandException _failure;
        string _reason;
        bool _edited;

        /// <summary>Before the first command: the world's first room, empty.</summary>
        public Session(World world, PlayerIdentity player)
        {
            _world = world;
            _player = player;
            _feasibility = new Feasibility(world);
            _relations = new RelationRule(world.Constants);
            Layout room = world.Layout(world.LayoutKeys[0]);
            Shown = new Show(0, room.Key, 0, room.Camera, "medium", 64, new PlacedObject[0]);
        }

        /// <summary>What is to be shown now; <c>Number</c> is that of the last command that was carried out.</summary>
        public Show Shown { get; private set; }

        public Layout Room { get { return _world.Layout(Shown.Layout); } }

        /// <summary>A command came. A <c>show</c> is carried out at once; an <c>edit</c> waits for the exchange's action.</summary>
        public void Receive(string text)
        {
            _pending = null;
            _failure = null;
            try
            {
                Command command = Command.Read(text, _world.Constants.Slots);
                if (command.Show != null)
                    Accept(command.Show);
                else if (Shown.Number == 0)
                    throw new CommandException("command", command.Number, "an edit before the first show");
                else
                    _pending = command;
            }
            catch (CommandException failure)
            {
                _failure = failure;
            }
        }

        /// <summary>The action of this exchange: ignored unless an <c>edit</c> is waiting for it.</summary>
        /// <param name="slot">Of the object that is replaced.</param>
        /// <param name="kind">Index into the world's kinds.</param>
        public void Act(int slot, int kind, double x, double y, double level, double yaw)
        {
            if (_pending == null)
                return;
            long number = _pending.Number;
            _pending = null;
            bool known = slot >= 0 && slot <= Shown.Objects.Count && slot < _world.Constants.Slots;
            if (!known || kind < 0 || kind >= _world.Kinds.Count || !Finite(x) || !Finite(y) || !Finite(level) || !Finite(yaw))
            {
                _failure = new CommandException("command", number, "an edit of slot " + slot + " and kind " + kind + " can't be");
                return;
            }
            var edit = new Edit(slot, _world.Kinds[kind].Name, x, y, level, yaw);
            Placement placement = _feasibility.Place(Room, Shown.Objects, edit);
            _edited = true;
            _reason = placement.Reason;
            var objects = new List<PlacedObject>(Shown.Objects);
            if (placement.Feasible && slot < objects.Count)
                objects[slot] = placement.Placed;
            else if (placement.Feasible)
                objects.Add(placement.Placed);
            Shown = Shown.Edited(number, objects);
        }

        /// <summary>The relation and its caption of two shown objects; null where they stand at the same point.</summary>
        public string CaptionOf(int slotA, int slotB)
        {
            PlacedObject a = Shown.Objects[slotA], b = Shown.Objects[slotB];
            int index = _relations.IndexOf(Shown.Camera.ToCamera(a.Position) - Shown.Camera.ToCamera(b.Position));
            return index < 0 ? null : _world.Captions.Describe(a.Kind, Relation.FromIndex(index), b.Kind);
        }

        /// <summary>The vector observation: the command's number, then the positions by slot, zeros for an empty one.</summary>
        public float[] Positions()
        {
            var numbers = new float[1 + 3 * _world.Constants.Slots];
            numbers[0] = Shown.Number % Protocol.NumberRange;
            for (int slot = 0; slot < Shown.Objects.Count; slot++)
            {
                Vector3D at = Shown.Camera.ToCamera(Shown.Objects[slot].Position);
                numbers[1 + 3 * slot] = (float)at.X;
                numbers[2 + 3 * slot] = (float)at.Y;
                numbers[3 + 3 * slot] = (float)at.Z;
            }
            return numbers;
        }

        /// <summary>The message that goes with an observation: <c>state</c>, or <c>error</c> when the last command failed.</summary>
        /// <param name="visible">By slot: visible pixels / pixels with nothing in front.</param>
        /// <param name="pixels">By slot: visible pixels.</param>
        public string Answer(IReadOnlyList<double> visible, IReadOnlyList<int> pixels)
        {
            if (_pending != null)
            {
                _failure = new CommandException("internal", _pending.Number, "no action came with the edit");
                _pending = null;
            }
            if (_failure != null)
                return Error(_failure.Number, _failure.Problem, _failure.Message);
            var objects = new List<JsonValue>();
            for (int slot = 0; slot < Shown.Objects.Count; slot++)
                objects.Add(Seen(Shown.Objects[slot], visible[slot], pixels[slot]));
            JsonValue edit = JsonValue.Null;
            if (_edited)
                edit = JsonValue.Map()
                    .With("feasible", new JsonValue(_reason == null))
                    .With("reason", _reason == null ? JsonValue.Null : new JsonValue(_reason));
            return Header("state", Shown.Number)
                .With("layout", new JsonValue(Shown.Layout))
                .With("size", new JsonValue((long)Shown.Size))
                .With("quality", new JsonValue(Shown.Quality))
                .With("objects", JsonValue.List(objects))
                .With("edit", edit)
                .With("player", Identity())
                .ToString();
        }

        /// <summary>The answer when the engine itself failed.</summary>
        public string InternalError(string detail) { return Error(Shown.Number, "internal", detail); }

        void Accept(Show show)
        {
            if (!_world.HasLayout(show.Layout))
                throw new CommandException("layout", show.Number, "no room '" + show.Layout + "' in the world file");
            foreach (PlacedObject placed in show.Objects)
                if (!_world.HasKind(placed.Kind))
                    throw new CommandException("kind", show.Number, "no kind '" + placed.Kind + "' in the world file");
            Shown = show;
            _edited = false;
            _reason = null;
        }

        JsonValue Seen(PlacedObject placed, double visible, int pixels)
        {
            ObjectKind kind = _world.Kind(placed.Kind);
            return JsonValue.Map()
                .With("kind", new JsonValue(kind.Name))
                .With("position", Shown.Camera.ToCamera(placed.Position).ToJson())
                .With("yaw", new JsonValue(placed.Yaw + Shown.Camera.Heading))
                .With("radius", new JsonValue(kind.Radius))
                .With("height", new JsonValue(kind.Height))
                .With("visible", new JsonValue(visible))
                .With("pixels", new JsonValue((long)pixels));
        }

        JsonValue Identity()
        {
            return JsonValue.Map()
                .With("name", new JsonValue(_player.Name))
                .With("version", new JsonValue(_player.Version))
                .With("build", new JsonValue(_player.Build))
                .With("device", new JsonValue(_player.Device))
                .With("world", new JsonValue(_world.Digest));
        }

        static string Error(long number, string problem, string detail)
        {
            return Header("error", number)
                .With("problem", new JsonValue(problem))
                .With("detail", new JsonValue(detail.Replace('\n', ' ')))
                .ToString();
        }

        static JsonValue Header(string type, long number)
        {
            return JsonValue.Map()
                .With("schema", new JsonValue((long)Protocol.Schema))
                .With("type", new JsonValue(type))
                .With("number", new JsonValue(number));
        }

        static bool Finite(double value) { return !double.IsNaN(value) && !double.IsInfinity(value); }
    }
}
