using NUnit.Framework;
using Rls3.Core;

namespace Rls3.Tests
{
    /// <summary>What a player answers to commands and actions.</summary>
    public class SessionTests
    {
        const string Edit = "{\"schema\":1,\"type\":\"edit\",\"number\":2}";

        static Session NewSession()
        {
            return new Session(Vectors.World, new PlayerIdentity("player", "1", "build", "device"));
        }

        static string Show(string kind, string more = "")
        {
            return "{\"schema\":1,\"type\":\"show\",\"number\":1,\"layout\":\"kitchen/0\",\"seed\":0,\"camera\":{\"eye\":[0,-2,1.4],"
                + "\"heading\":0,\"pitch\":-0.4,\"fov_deg\":52},\"quality\":\"high\",\"size\":32,\"objects\":[{\"kind\":\"" + kind
                + "\",\"position\":[0,0.5,0],\"yaw\":1}]" + more + "}";
        }

        static JsonValue Answer(Session session)
        {
            int count = session.Shown.Objects.Count;
            return JsonReader.Read(session.Answer(new double[count], new int[count]));
        }

        [Test]
        public void AShownSceneIsDescribedInTheCameraFrame()
        {
            Session session = NewSession();
            session.Receive(Show("globe"));
            JsonValue answer = Answer(session);
            Assert.That(answer["type"].AsText, Is.EqualTo("state"));
            Assert.That(answer["objects"].Items[0]["position"].AsNumbers, Is.EqualTo(new[] { 0.0, -1.4, 2.5 }));
            Assert.That(answer["edit"].IsNull, Is.True);
            Assert.That(answer["player"]["world"].AsText, Is.EqualTo(Vectors.World.Digest));
        }

        [Test]
        public void AnActionWithoutAnEditIsIgnored()
        {
            Session session = NewSession();
            session.Receive(Show("globe"));
            session.Act(0, 0, 0.0, 0.0, 0.0, 0.0);
            JsonValue answer = Answer(session);
            Assert.That(answer["number"].AsInteger, Is.EqualTo(1));
            Assert.That(answer["objects"].Items[0]["kind"].AsText, Is.EqualTo("globe"));
        }

        [Test]
        public void AFeasibleEditIsShownAndAnInfeasibleOneIsNot()
        {
            Session session = NewSession();
            session.Receive(Show("globe"));
            session.Receive(Edit);
            session.Act(0, 0, 0.0, 0.6, 0.0, 0.5);
            JsonValue answer = Answer(session);
            Assert.That(answer["edit"].ToString(), Is.EqualTo("{\"feasible\":true,\"reason\":null}"));
            Assert.That(answer["objects"].Items[0]["kind"].AsText, Is.EqualTo(Vectors.World.Kinds[0].Name));
            session.Receive(Edit);
            session.Act(0, 1, 50.0, 0.6, 0.0, 0.5);
            answer = Answer(session);
            Assert.That(answer["edit"]["reason"].AsText, Is.EqualTo("outside_room"));
            Assert.That(answer["objects"].Items[0]["kind"].AsText, Is.EqualTo(Vectors.World.Kinds[0].Name));
        }

        [TestCase("{\"schema\":2,\"type\":\"show\"}", "schema")]
        [TestCase("{\"schema\":1,\"type\":\"dance\",\"number\":1}", "command")]
        [TestCase("no JSON", "command")]
        [TestCase(Edit, "command")]
        public void ABadCommandIsAnsweredWithItsProblem(string command, string problem)
        {
            Session session = NewSession();
            session.Receive(command);
            JsonValue answer = Answer(session);
            Assert.That(answer["type"].AsText, Is.EqualTo("error"));
            Assert.That(answer["problem"].AsText, Is.EqualTo(problem));
        }

        [Test]
        public void AnUnknownKindChangesNothing()
        {
            Session session = NewSession();
            session.Receive(Show("globe"));
            session.Receive(Show("unicorn"));
            Assert.That(Answer(session)["problem"].AsText, Is.EqualTo("kind"));
            Assert.That(session.Shown.Objects[0].Kind, Is.EqualTo("globe"));
            session.Receive(Show("globe", ",\"more\":1"));
            Assert.That(Answer(session)["problem"].AsText, Is.EqualTo("command"));
        }

        [Test]
        public void AnEditWithoutAnActionIsTheEnginesFault()
        {
            Session session = NewSession();
            session.Receive(Show("globe"));
            session.Receive(Edit);
            Assert.That(Answer(session)["problem"].AsText, Is.EqualTo("internal"));
        }

        [Test]
        public void ThePositionsBesideTheMessageBeginWithTheCommandsNumber()
        {
            Session session = NewSession();
            session.Receive(Show("globe").Replace("\"number\":1", "\"number\":65537"));
            float[] numbers = session.Positions();
            Assert.That(numbers.Length, Is.EqualTo(10));
            Assert.That(numbers[0], Is.EqualTo(1f));
            Assert.That(numbers[2], Is.EqualTo(-1.4f));
            Assert.That(numbers[9], Is.EqualTo(0f));
        }
    }
}
