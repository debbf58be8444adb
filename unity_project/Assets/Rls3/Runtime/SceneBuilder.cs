using System.Collections.Generic;
using Rls3.Core;
using UnityEngine;

namespace Rls3.Unity
{
    /// <summary>Builds rooms and objects from the world file and shows those of a <c>Show</c>.</summary>
    public sealed class SceneBuilder
    {
        /// <summary>Layer of the active objects: a camera can see them alone.</summary>
        public const int ObjectLayer = 8;
        const int KeptRooms = 16;
        const int ColliderSegments = 24;

        static readonly int IdColor = Shader.PropertyToID("_Rls3Id");
        static readonly int LightColor = Shader.PropertyToID("_Rls3LightColor");
        static readonly int Ambient = Shader.PropertyToID("_Rls3Ambient");

        static readonly Vector4[] SlotColors =
        {
            new Vector4(1f, 0f, 0f, 1f), new Vector4(0f, 1f, 0f, 1f), new Vector4(0f, 0f, 1f, 1f),
        };

        readonly World _world;
        readonly Materials _materials;
        readonly Transform _root;
        readonly Light _lamp;
        readonly Dictionary<string, GameObject> _rooms = new Dictionary<string, GameObject>();
        readonly Dictionary<string, KindMeshes> _kinds = new Dictionary<string, KindMeshes>();
        readonly List<GameObject> _objects = new List<GameObject>();
        GameObject _room;

        public SceneBuilder(World world, Materials materials, Transform root)
        {
            _world = world;
            _materials = materials;
            _root = root;
            var lamp = new GameObject("Lamp");
            lamp.transform.SetParent(root, false);
            _lamp = lamp.AddComponent<Light>();
            _lamp.type = LightType.Point;
            _lamp.range = 30f;
            _lamp.renderMode = LightRenderMode.ForcePixel;
            _lamp.shadowBias = 0.02f;
            _lamp.shadowNormalBias = 0f;
            Shader.SetGlobalVector(IdColor, new Vector4(0f, 0f, 0f, 1f));
        }

        /// <summary>The active objects, by slot.</summary>
        public IReadOnlyList<GameObject> Objects { get { return _objects; } }

        public void Show(Show show)
        {
            ShowRoom(_world.Layout(show.Layout));
            _lamp.shadows = show.Quality == "low" ? LightShadows.None
                : show.Quality == "medium" ? LightShadows.Hard : LightShadows.Soft;
            while (_objects.Count > show.Objects.Count)
            {
                Discard(_objects[_objects.Count - 1]);
                _objects.RemoveAt(_objects.Count - 1);
            }
            for (int slot = 0; slot < show.Objects.Count; slot++)
                ShowObject(slot, show.Objects[slot]);
            Physics.SyncTransforms();
        }

        void ShowObject(int slot, PlacedObject placed)
        {
            if (slot == _objects.Count)
                _objects.Add(null);
            if (_objects[slot] == null || _objects[slot].name != placed.Kind)
            {
                if (_objects[slot] != null)
                    Discard(_objects[slot]);
                _objects[slot] = BuildObject(slot, _world.Kind(placed.Kind));
            }
            Transform transform = _objects[slot].transform;
            transform.localPosition = Convert.Point(placed.Position);
            transform.localRotation = Convert.Rotation(UnityAxes.Yaw(placed.Yaw));
        }

        void ShowRoom(Layout layout)
        {
            GameObject room;
            if (!_rooms.TryGetValue(layout.Key, out room))
            {
                if (_rooms.Count >= KeptRooms)
                    DiscardRooms();
                room = BuildRoom(layout);
                _rooms.Add(layout.Key, room);
            }
            if (_room != null)
                _room.SetActive(false);
            _room = room;
            _room.SetActive(true);
            LightSource light = layout.Light;
            _lamp.transform.localPosition = Convert.Point(light.Position);
            Shader.SetGlobalVector(LightColor, new Vector4(
                (float)light.Color.X, (float)light.Color.Y, (float)light.Color.Z, (float)light.Intensity));
            Shader.SetGlobalFloat(Ambient, (float)light.Ambient);
        }

        GameObject BuildRoom(Layout layout)
        {
            var room = new GameObject(layout.Key);
            room.transform.SetParent(_root, false);
            foreach (ShapedPart part in layout.Shell)
                AddMesh(room.transform, Convert.ToMesh(MeshMaker.Make(part), "shell"), part, 0);
            foreach (Piece piece in layout.Pieces)
                foreach (ShapedPart part in piece.Parts)
                    AddMesh(room.transform, Convert.ToMesh(piece.InRoom(part), piece.Type), part, 0);
            AddColliders(room, layout);
            return room;
        }

        // What objects may stand on and must not touch. Feasibility is the core's; these are for physics queries.
        static void AddColliders(GameObject room, Layout layout)
        {
            foreach (Box solid in layout.Solids)
            {
                var box = room.AddComponent<BoxCollider>();
                box.center = Convert.Point(new Vector3D(
                    (solid.X0 + solid.X1) / 2.0, (solid.Y0 + solid.Y1) / 2.0, (solid.Z0 + solid.Z1) / 2.0));
                box.size = Convert.Point(new Vector3D(
                    solid.X1 - solid.X0, solid.Y1 - solid.Y0, solid.Z1 - solid.Z0));
            }
            var floor = room.AddComponent<BoxCollider>();
            floor.center = new Vector3(0f, -0.05f, 0f);
            floor.size = new Vector3(20f, 0.1f, 20f);
        }

        GameObject BuildObject(int slot, ObjectKind kind)
        {
            KindMeshes meshes;
            if (!_kinds.TryGetValue(kind.Name, out meshes))
            {
                meshes = new KindMeshes(kind, ColliderSegments);
                _kinds.Add(kind.Name, meshes);
            }
            var made = new GameObject(kind.Name) { layer = ObjectLayer };
            made.transform.SetParent(_root, false);
            var block = new MaterialPropertyBlock();
            block.SetVector(IdColor, SlotColors[slot]);
            for (int i = 0; i < meshes.Parts.Count; i++)
            {
                MeshRenderer renderer = AddMesh(made.transform, meshes.Parts[i], kind.Parts[i], ObjectLayer);
                renderer.SetPropertyBlock(block);
            }
            var collider = made.AddComponent<MeshCollider>();
            collider.convex = true;
            collider.sharedMesh = meshes.Footprint;
            return made;
        }

        MeshRenderer AddMesh(Transform parent, Mesh mesh, ShapedPart part, int layer)
        {
            var holder = new GameObject(mesh.name) { layer = layer };
            holder.transform.SetParent(parent, false);
            holder.AddComponent<MeshFilter>().sharedMesh = mesh;
            var renderer = holder.AddComponent<MeshRenderer>();
            renderer.sharedMaterial = _materials.Of(part);
            return renderer;
        }

        void DiscardRooms()
        {
            foreach (GameObject room in _rooms.Values)
            {
                foreach (MeshFilter filter in room.GetComponentsInChildren<MeshFilter>(true))
                    Object.Destroy(filter.sharedMesh);
                Discard(room);
            }
            _rooms.Clear();
            _room = null;
        }

        // Destroy waits for the end of the frame, and pictures are taken before it.
        static void Discard(GameObject made)
        {
            made.SetActive(false);
            Object.Destroy(made);
        }
    }

    /// <summary>The meshes of a kind, made once: its parts, and the cylinder around it that physics sees.</summary>
    sealed class KindMeshes
    {
        public IReadOnlyList<Mesh> Parts { get; }
        public Mesh Footprint { get; }

        public KindMeshes(ObjectKind kind, int segments)
        {
            var parts = new List<Mesh>();
            foreach (ShapedPart part in kind.Parts)
                parts.Add(Convert.ToMesh(MeshMaker.Make(part), kind.Name));
            Parts = parts;
            Footprint = Convert.ToMesh(MeshMaker.Cylinder(kind.Radius, kind.Height, segments), kind.Name + " footprint");
        }
    }
}
