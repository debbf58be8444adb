using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Rls3.Core
{
    /// <summary>Reads JSON strictly: no comments, no trailing commas, no NaN, no key twice, one value and nothing after it.</summary>
    public sealed class JsonReader
    {
        const int MaxDepth = 64;

        readonly string _text;
        int _at;

        JsonReader(string text) { _text = text; }

        /// <summary>The value of a text. Throws <c>JsonException</c> naming the place of what is wrong.</summary>
        public static JsonValue Read(string text)
        {
            var reader = new JsonReader(text);
            JsonValue value = reader.Value(0);
            reader.SkipSpace();
            if (reader._at < text.Length)
                throw reader.Wrong("nothing more");
            return value;
        }

        JsonValue Value(int depth)
        {
            if (depth > MaxDepth)
                throw Wrong("at most " + MaxDepth + " lists and maps inside each other");
            SkipSpace();
            switch (Peek())
            {
                case '{':
                    return Map(depth);
                case '[':
                    return List(depth);
                case '"':
                    return new JsonValue(Text());
                case 't':
                    return Word("true", new JsonValue(true));
                case 'f':
                    return Word("false", new JsonValue(false));
                case 'n':
                    return Word("null", JsonValue.Null);
                default:
                    return Number();
            }
        }

        JsonValue Map(int depth)
        {
            JsonValue map = JsonValue.Map();
            _at++;
            if (Skip('}'))
                return map;
            do
            {
                SkipSpace();
                if (Peek() != '"')
                    throw Wrong("a key");
                string key = Text();
                Take(':');
                map.With(key, Value(depth + 1));
            }
            while (Skip(','));
            Take('}');
            return map;
        }

        JsonValue List(int depth)
        {
            var items = new List<JsonValue>();
            _at++;
            if (Skip(']'))
                return JsonValue.List(items);
            do
                items.Add(Value(depth + 1));
            while (Skip(','));
            Take(']');
            return JsonValue.List(items);
        }

        JsonValue Number()
        {
            int start = _at;
            bool whole = true;
            while (_at < _text.Length && "+-.eE0123456789".IndexOf(_text[_at]) >= 0)
                whole &= ".eE".IndexOf(_text[_at++]) < 0;
            string token = _text.Substring(start, _at - start);
            double number;
            if (!NumberText.TryParse(token, out number))
            {
                _at = start;
                throw Wrong("a value");
            }
            long integer;
            if (whole && long.TryParse(token, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out integer))
                return new JsonValue(integer);
            return new JsonValue(number);
        }

        string Text()
        {
            var text = new StringBuilder();
            _at++;
            while (Peek() != '"')
            {
                char c = _text[_at++];
                if (c < ' ')
                    throw Wrong("no control character in a text");
                text.Append(c == '\\' ? Escaped() : c);
            }
            _at++;
            return text.ToString();
        }

        char Escaped()
        {
            const string letters = "\"\\/nrtfb";
            const string meant = "\"\\/\n\r\t\f\b";
            char letter = Peek();
            _at++;
            int which = letters.IndexOf(letter);
            if (which >= 0)
                return meant[which];
            int code;
            bool four = letter == 'u' && _at + 4 <= _text.Length;
            if (!four || !int.TryParse(
                _text.Substring(_at, 4), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out code))
                throw Wrong("an escape that JSON has");
            _at += 4;
            return (char)code;
        }

        JsonValue Word(string word, JsonValue value)
        {
            if (string.CompareOrdinal(_text, _at, word, 0, word.Length) != 0)
                throw Wrong("a value");
            _at += word.Length;
            return value;
        }

        char Peek()
        {
            if (_at >= _text.Length)
                throw Wrong("more: the text ends too early");
            return _text[_at];
        }

        void SkipSpace()
        {
            while (_at < _text.Length && " \t\r\n".IndexOf(_text[_at]) >= 0)
                _at++;
        }

        bool Skip(char c)
        {
            SkipSpace();
            if (Peek() != c)
                return false;
            _at++;
            return true;
        }

        void Take(char c)
        {
            if (!Skip(c))
                throw Wrong("'" + c + "'");
        }

        JsonException Wrong(string needed)
        {
            return new JsonException("at character " + _at + ": JSON needs " + needed);
        }
    }
}
