// A player without an engine, for tests: a line of JSON is an exchange (a command, perhaps an action, what is seen), and
// the line that comes back is the message that a player would send.
using System;
using System.Collections.Generic;
using System.IO;
using Rls3.Core;

static class Answers
{
    static void Main(string[] words)
    {
        var player = new PlayerIdentity("headless", "1", "test", "none");
        var session = new Session(new World(File.ReadAllText(words[0])), player);
        for (string line = Console.ReadLine(); line != null; line = Console.ReadLine())
        {
            JsonValue exchange = JsonReader.Read(line);
            if (exchange.Has("command"))
                session.Receive(exchange["command"].AsText);
            if (exchange.Has("action"))
            {
                IReadOnlyList<JsonValue> a = exchange["action"].Items;
                session.Act(
                    (int)a[0].AsInteger, (int)a[1].AsInteger, a[2].AsNumber, a[3].AsNumber, a[4].AsNumber, a[5].AsNumber);
            }
            var pixels = new List<int>();
            foreach (JsonValue count in exchange["pixels"].Items)
                pixels.Add((int)count.AsInteger);
            Console.WriteLine(session.Answer(exchange["visible"].AsNumbers, pixels));
        }
    }
}
