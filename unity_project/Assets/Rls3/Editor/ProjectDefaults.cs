using UnityEditor;
using UnityEngine;

namespace Rls3.EditorTools
{
    /// <summary>The few project settings that matter, set by code: no settings file of Unity's has to be kept in git.</summary>
    [InitializeOnLoad]
    public static class ProjectDefaults
    {
        static ProjectDefaults() { EditorApplication.delayCall += Apply; }

        public static void Apply()
        {
            if (EditorApplication.isPlayingOrWillChangePlaymode)
                return;
            if (PlayerSettings.colorSpace != ColorSpace.Linear)
                PlayerSettings.colorSpace = ColorSpace.Linear;
            PlayerSettings.companyName = "rls3";
            PlayerSettings.productName = "rls3-player";
            PlayerSettings.bundleVersion = "0.1.0";
            PlayerSettings.runInBackground = true;
            PlayerSettings.fullScreenMode = FullScreenMode.Windowed;
            PlayerSettings.defaultScreenWidth = 480;
            PlayerSettings.defaultScreenHeight = 480;
            PlayerSettings.resizableWindow = true;
        }
    }
}
