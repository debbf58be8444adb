using System;
using System.Collections.Generic;
using System.IO;
using Rls3.Core;

namespace Rls3.Tests
{
    /// <summary>
    /// Cases with the answers of the Python package: a line is an input, a tab, and the output. The folder in
    /// RLS3_VECTORS holds thousands of them, made when Python's tests run; a few are kept in the project. RLS3_PROJECT
    /// is the folder of the project, where that is not the current one as in Unity.
    /// </summary>
    static class Vectors
    {
        const string KeptFolder = "Assets/Rls3/Tests/EditMode/Vectors";
        const string WorldFile = "Assets/StreamingAssets/world.json";

        static World s_world;

        public static World World
        {
            get
            {
                if (s_world == null)
                    s_world = new World(File.ReadAllText(InProject(WorldFile)));
                return s_world;
            }
        }

        public static IEnumerable<KeyValuePair<string, string>> Cases(string name)
        {
            string folder = Environment.GetEnvironmentVariable("RLS3_VECTORS");
            if (string.IsNullOrEmpty(folder))
                folder = InProject(KeptFolder);
            foreach (string line in File.ReadAllText(Path.Combine(folder, name + ".txt")).Split('\n'))
            {
                int tab = line.IndexOf('\t');
                if (tab >= 0)
                    yield return new KeyValuePair<string, string>(line.Substring(0, tab), line.Substring(tab + 1));
            }
        }

        static string InProject(string path)
        {
            return Path.Combine(Environment.GetEnvironmentVariable("RLS3_PROJECT") ?? "", path);
        }
    }
}
