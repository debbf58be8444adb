using System;

namespace Rls3.Core
{
    /// <summary>
    /// Procedural textures by the names of <c>backends/embedded/textures.py</c>: the same patterns, tileable and pale (a
    /// part's color is multiplied with them). Their noise is another one: numpy's can't be made here.
    /// </summary>
    public static class TextureMaker
    {
        public const int Side = 256;

        /// <summary>Brightness 0..1 at (u, v) in 0..1; throws <c>JsonException</c> for an unknown name.</summary>
        public static Func<double, double, double> Pattern(string name)
        {
            switch (name)
            {
                case "brick":
                    return (u, v) => Bond(u, v, 12, 4, 0.5, 0.012, 0.24, 1.0, 26) * (1.0 - 0.08 * Noise(u, v, 30, 30, 27));
                case "carpet":
                    return (u, v) => 1.0 - 0.16 * Noise(u, v, 40, 40, 23) - 0.06 * Noise(u, v, 6, 6, 24);
                case "checker":
                    return (u, v) => Odd(u * 4.0) == Odd(v * 4.0) ? 1.0 : 0.62;
                case "fabric":
                    return (u, v) => 0.98 + 0.02 * Wave(20.0 * u) * Wave(20.0 * v) - 0.1 * Noise(u, v, 14, 14, 22);
                case "floorboards":
                    return (u, v) => Bond(u, v, 8, 2, 0.5, 0.006, 0.2, 0.65, 28) * (1.0 - 0.16 * Noise(u, v, 3, 40, 29));
                case "gingham":
                    return (u, v) => 1.0 - 0.17 * ((Odd(u * 16.0) ? 1.0 : 0.0) + (Odd(v * 16.0) ? 1.0 : 0.0));
                case "knit":
                    return (u, v) => 0.9 + 0.08 * Wave(16.0 * v + 0.25 * Math.Abs(Wave(8.0 * u)));
                case "lightwood":
                    return (u, v) => 1.02 * (1.0 - 0.14 * Noise(u, v, 2, 16, 13) - 0.06 * Noise(u, v, 3, 50, 14));
                case "marble":
                    return Marble;
                case "parquet":
                    return Parquet;
                case "plaster":
                    return (u, v) => 1.0 - 0.05 * Noise(u, v, 8, 8, 17) - 0.03 * Noise(u, v, 30, 30, 18);
                case "rug":
                    return Rug;
                case "small_tile":
                    return (u, v) => Bond(u, v, 8, 5, 0.5, 0.012, 0.06, 0.78, 16);
                case "stripes":
                    return (u, v) => Odd(u * 12.0) ? 0.82 : 1.0;
                case "tile":
                    return (u, v) => Bond(u, v, 4, 4, 0.0, 0.016, 0.07, 0.74, 15);
                case "wallpaper":
                    return Wallpaper;
                case "wood":
                    return (u, v) => 1.06 * (1.0 - 0.22 * Noise(u, v, 2, 24, 11) - 0.14 * Noise(u, v, 4, 60, 12));
                default:
                    throw new JsonException("unknown texture \"" + name + "\"");
            }
        }

        /// <summary>The texture's brightness as bytes (sRGB), row by row, v upwards.</summary>
        public static byte[] Make(string name)
        {
            Func<double, double, double> pattern = Pattern(name);
            var bytes = new byte[Side * Side];
            for (int row = 0; row < Side; row++)
                for (int column = 0; column < Side; column++)
                {
                    double value = pattern((column + 0.5) / Side, (row + 0.5) / Side);
                    bytes[row * Side + column] = (byte)Math.Round(255.0 * Math.Min(Math.Max(value, 0.0), 1.0));
                }
            return bytes;
        }

        static double Marble(double u, double v)
        {
            double veins = Math.Abs(Noise(u, v, 4, 4, 19) + 0.25 * Noise(u, v, 14, 14, 20) - 0.62);
            return 0.98 - 0.3 * Math.Exp(-veins * 22.0) - 0.05 * Noise(u, v, 6, 6, 21);
        }

        // Basket weave: squares of four staves, turned by a quarter from square to square.
        static double Parquet(double u, double v)
        {
            bool turned = Odd(u * 4.0) == Odd(v * 4.0);
            double along = (turned ? u : v) * 16.0;
            int square = (int)(u * 4.0) * 4 + (int)(v * 4.0);
            double tone = 1.0 - 0.2 * Random(square * 16 + (int)along % 16, 0, 29);
            double joint = Math.Abs(along - Math.Round(along)) < 0.06 ? 0.8 : 1.0;
            return tone * joint * (turned ? 1.0 : 0.9);
        }

        static double Rug(double u, double v)
        {
            double ring = Math.Max(Math.Abs(u - 0.5), Math.Abs(v - 0.5)) * 2.0;
            bool dark = (ring > 0.78 && ring < 0.88) || (ring > 0.4 && ring < 0.46)
                || Math.Abs(u - 0.5) + Math.Abs(v - 0.5) < 0.14;
            return (dark ? 0.66 : 0.96) - 0.05 * Noise(u, v, 24, 24, 25);
        }

        static double Wallpaper(double u, double v)
        {
            double du = u * 8.0 % 2.0 - 1.5, dv = v * 8.0 % 2.0 - 1.0;
            if (Math.Abs(du) * 1.6 + Math.Abs(dv) < 0.42)
                return 0.8;
            return Odd(u * 8.0) ? 0.91 : 1.0;
        }

        // Blocks in rows, each row shifted; tones of blocks differ by up to a spread.
        static double Bond(
            double u, double v, int rows, int columns, double shift, double joint, double spread, double gap, int seed)
        {
            int row = (int)(v * rows);
            double along = (u * columns + row * shift) % columns;
            int column = (int)along;
            double edgeU = Math.Min(along - column, 1.0 - (along - column)) / columns;
            double edgeV = Math.Min(v * rows - row, 1.0 - (v * rows - row)) / rows;
            bool between = Math.Min(edgeU, edgeV) < joint / 2.0;
            return between ? gap : 1.0 - spread * Random(column, row, seed);
        }

        // Smooth noise 0..1 that repeats at 1, with that many bumps across and down.
        static double Noise(double u, double v, int across, int down, int seed)
        {
            double x = u * across, y = v * down;
            int column = (int)x, row = (int)y;
            double s = Smooth(x - column), t = Smooth(y - row);
            int right = (column + 1) % across, below = (row + 1) % down;
            double top = Random(column, row, seed) * (1.0 - s) + Random(right, row, seed) * s;
            double bottom = Random(column, below, seed) * (1.0 - s) + Random(right, below, seed) * s;
            return top * (1.0 - t) + bottom * t;
        }

        static double Smooth(double t) { return t * t * (3.0 - 2.0 * t); }

        // A hash of a lattice point, 0..1: no state, so a texture never depends on what was made before it.
        static double Random(int x, int y, int seed)
        {
            unchecked
            {
                uint h = (uint)x * 374761393u + (uint)y * 668265263u + (uint)seed * 2246822519u;
                h = (h ^ (h >> 13)) * 1274126177u;
                h = (h ^ (h >> 16)) * 2654435761u;
                return ((h ^ (h >> 15)) & 0xFFFFFF) / (double)0x1000000;
            }
        }

        static bool Odd(double value) { return (int)value % 2 == 1; }

        static double Wave(double turns) { return Math.Sin(2.0 * Math.PI * turns); }
    }
}
