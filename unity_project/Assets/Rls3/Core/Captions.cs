using System.Collections.Generic;
using System.Text;

namespace Rls3.Core
{
    /// <summary>Captions in the paper's grammar, as <c>scene/captions.py</c> writes them.</summary>
    public sealed class Captions
    {
        static readonly string[] Names = { "left", "right", "front", "behind", "above", "below" };

        readonly string[] _inner = new string[Names.Length];
        readonly string[] _last = new string[Names.Length];

        /// <param name="phrases">Of the world file: each term before another one, and as the last one.</param>
        public Captions(JsonValue phrases)
        {
            for (int term = 0; term < Names.Length; term++)
            {
                IReadOnlyList<JsonValue> pair = phrases[Names[term]].Items;
                _inner[term] = pair[0].AsText;
                _last[term] = pair[1].AsText;
            }
        }

        /// <summary>Of an ordered pair, e.g. <c>The blender is below and in front of the plate.</c></summary>
        public string Describe(string kindA, Relation relation, string kindB)
        {
            IReadOnlyList<Term> terms = relation.Terms;
            var text = new StringBuilder("The " + kindA + " is ");
            for (int i = 0; i < terms.Count - 1; i++)
                text.Append(i > 0 ? ", " : "").Append(_inner[(int)terms[i]]);
            if (terms.Count > 1)
                text.Append(" and ");
            return text.Append(_last[(int)terms[terms.Count - 1]] + " the " + kindB + ".").ToString();
        }

        /// <summary>Short name of a relation, e.g. <c>above+behind+left</c>.</summary>
        public static string Label(Relation relation)
        {
            var names = new List<string>();
            foreach (Term term in relation.Terms)
                names.Add(Names[(int)term]);
            return string.Join("+", names);
        }
    }
}
