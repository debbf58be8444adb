using System;
using System.IO;
using UnityEditor;
using UnityEditor.Build.Reporting;
using UnityEditor.SceneManagement;
using UnityEngine;

namespace Rls3.EditorTools
{
    /// <summary>Players from the command line: <c>Unity -batchmode -projectPath unity_project -executeMethod
    /// Rls3.EditorTools.Build.LinuxPlayer -rls3Output Builds/Linux/rls3.x86_64 -logFile -</c></summary>
    public static class Build
    {
        const string ScenePath = "Assets/Rls3/Scenes/Main.unity";

        public static void LinuxPlayer() { Run(BuildTarget.StandaloneLinux64, "Builds/Linux/rls3.x86_64"); }

        public static void WindowsPlayer() { Run(BuildTarget.StandaloneWindows64, "Builds/Windows/rls3.exe"); }

        public static void MacPlayer() { Run(BuildTarget.StandaloneOSX, "Builds/Mac/rls3.app"); }

        static void Run(BuildTarget target, string output)
        {
            output = Argument("-rls3Output", output);
            bool succeeded = false;
            try
            {
                succeeded = Make(target, output);
            }
            catch (Exception error)
            {
                Debug.LogException(error);
            }
            if (Application.isBatchMode)
                EditorApplication.Exit(succeeded ? 0 : 1);
        }

        static bool Make(BuildTarget target, string output)
        {
            MakeScene();
            ProjectDefaults.Apply();
            // The Server subtarget has no graphics device, and without one there are no pictures.
            EditorUserBuildSettings.standaloneBuildSubtarget = StandaloneBuildSubtarget.Player;
            var options = new BuildPlayerOptions
            {
                scenes = new[] { ScenePath },
                target = target,
                subtarget = (int)StandaloneBuildSubtarget.Player,
                locationPathName = output,
                options = BuildOptions.StrictMode,
            };
            BuildSummary summary = BuildPipeline.BuildPlayer(options).summary;
            Debug.Log("RLS3 build: " + summary.result + ", " + summary.totalErrors + " errors, " + summary.outputPath);
            return summary.result == BuildResult.Succeeded;
        }

        // A player needs a scene; Bootstrap fills it.
        static void MakeScene()
        {
            if (File.Exists(ScenePath))
                return;
            Directory.CreateDirectory(Path.GetDirectoryName(ScenePath));
            EditorSceneManager.SaveScene(
                EditorSceneManager.NewScene(NewSceneSetup.EmptyScene, NewSceneMode.Single), ScenePath);
        }

        static string Argument(string name, string otherwise)
        {
            string[] words = Environment.GetCommandLineArgs();
            int at = Array.IndexOf(words, name);
            return at >= 0 && at + 1 < words.Length ? words[at + 1] : otherwise;
        }
    }
}
