// The meshes of a room as the Unity player builds them, for tests: a line of JSON for each part.
using System;
using System.Collections.Generic;
using System.IO;
using Rls3.Core;

static class Room
{
    static void Main(string[] words)
    {
        Layout room = new World(File.ReadAllText(words[0])).Layout(words[1]);
        foreach (ShapedPart part in room.Shell)
            Write(part, MeshMaker.Make(part));
        foreach (Piece piece in room.Pieces)
            foreach (ShapedPart part in piece.Parts)
                Write(part, piece.InRoom(part));
    }

    static void Write(ShapedPart part, MeshData mesh)
    {
        var corners = new List<JsonValue>();
        foreach (int corner in mesh.Corners)
            corners.Add(new JsonValue((long)corner));
        var uv = new List<JsonValue>();
        for (int i = 0; i < mesh.U.Count; i++)
            uv.Add(JsonValue.List(mesh.U[i], mesh.V[i]));
        JsonValue texture = part.Texture == null ? JsonValue.Null : new JsonValue(part.Texture);
        Console.WriteLine(JsonValue.Map()
            .With("color", part.Color.ToJson())
            .With("texture", texture)
            .With("specular", new JsonValue(part.Specular))
            .With("vertices", Rows(mesh.Vertices))
            .With("normals", Rows(mesh.Normals))
            .With("uv", JsonValue.List(uv))
            .With("corners", JsonValue.List(corners)));
    }

    static JsonValue Rows(IReadOnlyList<Vector3D> vectors)
    {
        var rows = new List<JsonValue>();
        foreach (Vector3D vector in vectors)
            rows.Add(vector.ToJson());
        return JsonValue.List(rows);
    }
}
