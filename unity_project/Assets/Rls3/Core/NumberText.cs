using System;
using System.Globalization;
using System.Numerics;
using System.Text;

namespace Rls3.Core
{
    /// <summary>
    /// Doubles as text and back, to the last bit. <c>Format</c> gives the shortest digits that read back as the same
    /// number, laid out as Python's <c>repr</c>: the "R" format of Mono is neither shortest nor always exact.
    /// </summary>
    public static class NumberText
    {
        const int MantissaBits = 52;
        const long HiddenBit = 1L << MantissaBits;
        const int LeastExponent = -1074;
        const int GreatestExponent = 971;

        // Powers of ten that a double holds exactly.
        static readonly double[] Exact =
        {
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
            1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
        };

        /// <summary>The number as Python and JSON write it. Throws for NaN and the infinities.</summary>
        public static string Format(double value)
        {
            if (double.IsNaN(value) || double.IsInfinity(value))
                throw new ArgumentOutOfRangeException(nameof(value), "JSON has no NaN and no infinity");
            long bits = BitConverter.DoubleToInt64Bits(value);
            string sign = bits < 0 ? "-" : "";
            long mantissa = bits & (HiddenBit - 1);
            int exponent = (int)((bits >> MantissaBits) & 0x7FF);
            if (exponent == 0 && mantissa == 0)
                return sign + "0.0";
            int point;
            string digits = exponent == 0
                ? Shortest(mantissa, LeastExponent, out point)
                : Shortest(mantissa | HiddenBit, exponent - 1075, out point);
            return sign + LaidOut(digits, point);
        }

        /// <summary>
        /// The double nearest to a decimal number as JSON writes it; of two equally near ones the even.
        /// False for another text, or a number too great for a double.
        /// </summary>
        public static bool TryParse(string text, out double value)
        {
            value = 0.0;
            int at = 0;
            bool negative = at < text.Length && text[at] == '-';
            if (negative)
                at++;
            var digits = new StringBuilder();
            int first = at;
            int scale = 0;
            at = TakeDigits(text, at, digits);
            if (at == first || (text[first] == '0' && at > first + 1))
                return false;
            if (at < text.Length && text[at] == '.')
            {
                int start = ++at;
                at = TakeDigits(text, at, digits);
                scale = start - at;
                if (at == start)
                    return false;
            }
            if (at < text.Length && (text[at] == 'e' || text[at] == 'E'))
            {
                int power;
                at = TakeExponent(text, at + 1, out power);
                if (at < 0)
                    return false;
                scale += power;
            }
            if (at != text.Length)
                return false;
            value = Nearest(digits.ToString().TrimStart('0'), scale);
            if (double.IsInfinity(value))
                return false;
            if (negative)
                value = -value;
            return true;
        }

        static int TakeDigits(string text, int at, StringBuilder digits)
        {
            while (at < text.Length && text[at] >= '0' && text[at] <= '9')
                digits.Append(text[at++]);
            return at;
        }

        // The place after the exponent, or -1.
        static int TakeExponent(string text, int at, out int power)
        {
            power = 0;
            bool negative = at < text.Length && text[at] == '-';
            if (at < text.Length && (text[at] == '-' || text[at] == '+'))
                at++;
            int first = at;
            for (; at < text.Length && text[at] >= '0' && text[at] <= '9'; at++)
                power = Math.Min(power * 10 + (text[at] - '0'), 100000);
            if (negative)
                power = -power;
            return at == first ? -1 : at;
        }

        static double Nearest(string digits, int scale)
        {
            if (digits.Length == 0)
                return 0.0;
            if (digits.Length <= 15 && Math.Abs(scale) < Exact.Length)
            {
                // Both factors are exact, so one rounding gives the nearest.
                double whole = long.Parse(digits, CultureInfo.InvariantCulture);
                return scale < 0 ? whole / Exact[-scale] : whole * Exact[scale];
            }
            if (digits.Length + scale > 310)
                return double.PositiveInfinity;
            if (digits.Length + scale < -330)
                return 0.0;
            BigInteger above = digits.Length <= 19
                ? new BigInteger(ulong.Parse(digits, CultureInfo.InvariantCulture))
                : BigInteger.Parse(digits, CultureInfo.InvariantCulture);
            BigInteger below = BigInteger.One;
            if (scale >= 0)
                above *= BigInteger.Pow(10, scale);
            else
                below = BigInteger.Pow(10, -scale);
            int leading = Math.Min(digits.Length, 9);
            double start = int.Parse(digits.Substring(0, leading), CultureInfo.InvariantCulture);
            double log = Math.Log(start, 2.0) + (digits.Length - leading + scale) * Math.Log(10.0, 2.0);
            return Nearest(above, below, (int)Math.Floor(log) - MantissaBits);
        }

        // The exponent may be wrong by one.
        static double Nearest(BigInteger above, BigInteger below, int exponent)
        {
            exponent = Math.Max(exponent, LeastExponent);
            BigInteger divisor;
            BigInteger rest;
            BigInteger mantissa = Divide(above, below, exponent, out divisor, out rest);
            if (mantissa >= 2 * HiddenBit)
                mantissa = Divide(above, below, ++exponent, out divisor, out rest);
            else if (mantissa < HiddenBit && exponent > LeastExponent)
                mantissa = Divide(above, below, --exponent, out divisor, out rest);
            int half = (2 * rest).CompareTo(divisor);
            if (half > 0 || (half == 0 && !mantissa.IsEven))
                mantissa += 1;
            if (exponent > GreatestExponent)
                return double.PositiveInfinity;
            long bits = (long)mantissa;
            if (bits >= HiddenBit)  // a mantissa rounded up to the next power of two carries into the exponent
                bits += (long)(exponent + 1074) << MantissaBits;
            return BitConverter.Int64BitsToDouble(bits);
        }

        static BigInteger Divide(
            BigInteger above, BigInteger below, int exponent, out BigInteger divisor, out BigInteger rest)
        {
            divisor = exponent > 0 ? below << exponent : below;
            return BigInteger.DivRem(exponent < 0 ? above << -exponent : above, divisor, out rest);
        }

        // Steele and White's digit generation, as by Burger and Dybvig, "Printing Floating-Point Numbers Quickly and
        // Accurately" (1996). The number is 0.DIGITS * 10^point.
        static string Shortest(long mantissa, int exponent, out int point)
        {
            bool even = (mantissa & 1) == 0;
            // At a power of two the neighbor below is half as far as the one above.
            int uneven = mantissa == HiddenBit && exponent > LeastExponent ? 1 : 0;
            BigInteger rest = new BigInteger(mantissa) << (Math.Max(exponent, 0) + 1 + uneven);
            BigInteger divisor = BigInteger.One << (Math.Max(-exponent, 0) + 1 + uneven);
            BigInteger lower = BigInteger.One << Math.Max(exponent, 0);
            BigInteger upper = lower << uneven;
            point = (int)Math.Ceiling(Math.Log10(mantissa) + exponent * Math.Log10(2.0) - 1e-10);
            if (point >= 0)
            {
                divisor *= BigInteger.Pow(10, point);
            }
            else
            {
                BigInteger power = BigInteger.Pow(10, -point);
                rest *= power;
                lower *= power;
                upper *= power;
            }
            if (even ? rest + upper >= divisor : rest + upper > divisor)
            {
                point++;
                divisor *= 10;
            }
            var digits = new StringBuilder();
            while (true)
            {
                rest *= 10;
                lower *= 10;
                upper *= 10;
                int digit = (int)BigInteger.DivRem(rest, divisor, out rest);
                bool low = even ? rest <= lower : rest < lower;
                bool high = even ? rest + upper >= divisor : rest + upper > divisor;
                if (!low && !high)
                {
                    digits.Append((char)('0' + digit));
                    continue;
                }
                int half = (2 * rest).CompareTo(divisor);
                bool up = high && (!low || half > 0 || (half == 0 && (digit & 1) == 1));
                digits.Append((char)('0' + digit + (up ? 1 : 0)));
                return digits.ToString();
            }
        }

        static string LaidOut(string digits, int point)
        {
            int power = point - 1;
            if (power < -4 || power >= 16)
            {
                string size = Math.Abs(power).ToString("00", CultureInfo.InvariantCulture);
                string fraction = digits.Length > 1 ? "." + digits.Substring(1) : "";
                return digits[0] + fraction + "e" + (power < 0 ? "-" : "+") + size;
            }
            if (point <= 0)
                return "0." + new string('0', -point) + digits;
            if (point >= digits.Length)
                return digits + new string('0', point - digits.Length) + ".0";
            return digits.Substring(0, point) + "." + digits.Substring(point);
        }
    }
}
