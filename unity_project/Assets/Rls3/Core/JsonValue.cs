using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Rls3.Core
{
    public enum JsonType { Null, Bool, Integer, Number, Text, List, Map }

    /// <summary>A text is no JSON, or not the JSON that is needed. The message says where.</summary>
    public sealed class JsonException : Exception
    {
        public JsonException(string message) : base(message) { }
    }

    /// <summary>A JSON value. Maps keep the order of their keys; integers are told from other numbers.</summary>
    public sealed class JsonValue
    {
        public static readonly JsonValue Null = new JsonValue(JsonType.Null);

        readonly bool _bool;
        readonly long _integer;
        readonly double _number;
        readonly string _text;
        readonly List<JsonValue> _items;
        readonly List<string> _keys;
        readonly Dictionary<string, JsonValue> _values;

        public JsonType Type { get; }

        JsonValue(JsonType type) { Type = type; }

        public JsonValue(bool value) : this(JsonType.Bool) { _bool = value; }

        public JsonValue(long value) : this(JsonType.Integer) { _integer = value; }

        public JsonValue(double value) : this(JsonType.Number) { _number = value; }

        public JsonValue(string value) : this(JsonType.Text) { _text = value; }

        JsonValue(List<JsonValue> items) : this(JsonType.List) { _items = items; }

        JsonValue(List<string> keys, Dictionary<string, JsonValue> values) : this(JsonType.Map)
        {
            _keys = keys;
            _values = values;
        }

        /// <summary>A list of these values.</summary>
        public static JsonValue List(IEnumerable<JsonValue> items) { return new JsonValue(new List<JsonValue>(items)); }

        /// <summary>A list of numbers.</summary>
        public static JsonValue List(params double[] numbers)
        {
            var items = new List<JsonValue>();
            foreach (double number in numbers)
                items.Add(new JsonValue(number));
            return new JsonValue(items);
        }

        /// <summary>An empty map, to be filled with <c>With</c>.</summary>
        public static JsonValue Map() { return new JsonValue(new List<string>(), new Dictionary<string, JsonValue>()); }

        /// <summary>Adds a key to a map, and gives the map. Throws when the key is there already.</summary>
        public JsonValue With(string key, JsonValue value)
        {
            if (Need(JsonType.Map)._values.ContainsKey(key))
                throw new JsonException("key \"" + key + "\" stands there twice");
            _keys.Add(key);
            _values.Add(key, value);
            return this;
        }

        public bool IsNull { get { return Type == JsonType.Null; } }

        public bool AsBool { get { return Need(JsonType.Bool)._bool; } }

        public long AsInteger { get { return Need(JsonType.Integer)._integer; } }

        /// <summary>A number, whole or not.</summary>
        public double AsNumber { get { return Type == JsonType.Integer ? _integer : Need(JsonType.Number)._number; } }

        public string AsText { get { return Need(JsonType.Text)._text; } }

        public IReadOnlyList<JsonValue> Items { get { return Need(JsonType.List)._items; } }

        public IReadOnlyList<string> Keys { get { return Need(JsonType.Map)._keys; } }

        /// <summary>The numbers of a list.</summary>
        public double[] AsNumbers
        {
            get
            {
                IReadOnlyList<JsonValue> items = Items;
                var numbers = new double[items.Count];
                for (int i = 0; i < numbers.Length; i++)
                    numbers[i] = items[i].AsNumber;
                return numbers;
            }
        }

        public bool Has(string key) { return Need(JsonType.Map)._values.ContainsKey(key); }

        /// <summary>The value of a key. Throws when it is missing.</summary>
        public JsonValue this[string key]
        {
            get
            {
                JsonValue value;
                if (!Need(JsonType.Map)._values.TryGetValue(key, out value))
                    throw new JsonException("key \"" + key + "\" is missing");
                return value;
            }
        }

        JsonValue Need(JsonType type)
        {
            if (Type != type)
                throw new JsonException(type + " is needed where " + Type + " is");
            return this;
        }

        /// <summary>The value as Python's <c>json.dumps(..., separators=(",", ":"))</c> writes it: ASCII, no spaces.</summary>
        public override string ToString()
        {
            var text = new StringBuilder();
            Write(text);
            return text.ToString();
        }

        void Write(StringBuilder text)
        {
            switch (Type)
            {
                case JsonType.Null:
                    text.Append("null");
                    break;
                case JsonType.Bool:
                    text.Append(_bool ? "true" : "false");
                    break;
                case JsonType.Integer:
                    text.Append(_integer.ToString(CultureInfo.InvariantCulture));
                    break;
                case JsonType.Number:
                    text.Append(NumberText.Format(_number));
                    break;
                case JsonType.Text:
                    WriteText(text, _text);
                    break;
                case JsonType.List:
                    WriteAll(text, '[', ']', _items.Count, i => _items[i].Write(text));
                    break;
                default:
                    WriteAll(text, '{', '}', _keys.Count, i => WriteMember(text, _keys[i]));
                    break;
            }
        }

        static void WriteAll(StringBuilder text, char open, char close, int count, Action<int> write)
        {
            text.Append(open);
            for (int i = 0; i < count; i++)
            {
                if (i > 0)
                    text.Append(',');
                write(i);
            }
            text.Append(close);
        }

        void WriteMember(StringBuilder text, string key)
        {
            WriteText(text, key);
            text.Append(':');
            _values[key].Write(text);
        }

        static void WriteText(StringBuilder text, string value)
        {
            const string escaped = "\"\\\n\r\t\f\b";
            const string letters = "\"\\nrtfb";
            text.Append('"');
            foreach (char c in value)
            {
                int at = escaped.IndexOf(c);
                if (at >= 0)
                    text.Append('\\').Append(letters[at]);
                else if (c < ' ' || c > '~')
                    text.Append("\\u").Append(((int)c).ToString("x4", CultureInfo.InvariantCulture));
                else
                    text.Append(c);
            }
            text.Append('"');
        }
    }
}
