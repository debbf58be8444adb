using System;
using System.IO;
using Rls3.Core;
using Unity.MLAgents;
using Unity.MLAgents.Actuators;
using Unity.MLAgents.Policies;
using Unity.MLAgents.SideChannels;
using UnityEngine;
using UnityEngine.SceneManagement;
using UnityEngine.Scripting;

[assembly: AlwaysLinkAssembly]

namespace Rls3.Unity
{
    /// <summary>Builds everything when any scene starts, so that no scene file has to hold it, and keeps the exchange going.</summary>
    public sealed class Bootstrap : MonoBehaviour
    {
        public const string WorldFile = "world.json";

        MessageChannel _channel;
        PlayerAgent _agent;
        CameraRig _rig;

        [RuntimeInitializeOnLoadMethod(RuntimeInitializeLoadType.AfterSceneLoad)]
        static void Boot()
        {
            // PlayMode tests run in a scene of that name and build what they need themselves.
            if (SceneManager.GetActiveScene().name.StartsWith("InitTestScene", StringComparison.Ordinal))
                return;
            DontDestroyOnLoad(new GameObject("RLS3").AddComponent<Bootstrap>().gameObject);
        }

        /// <summary>The world file of this build: beside a player it can be replaced without building again.</summary>
        public static World LoadWorld()
        {
            return new World(File.ReadAllText(Path.Combine(Application.streamingAssetsPath, WorldFile)));
        }

        void Awake()
        {
            QualitySettings.vSyncCount = 0;
            Application.targetFrameRate = -1;
            Application.runInBackground = true;
            Physics.simulationMode = SimulationMode.Script;  // nothing moves by itself
            try
            {
                SetUp(LoadWorld());
            }
            catch (Exception error)
            {
                Debug.LogException(error);
                enabled = false;
                Application.Quit(2);
            }
        }

        void SetUp(World world)
        {
            string build = Application.isEditor ? "editor" : Application.buildGUID;
            var session = new Session(world, new PlayerIdentity(
                Application.productName, Application.version, build, SystemInfo.graphicsDeviceName));
            var materials = new Materials();
            var builder = new SceneBuilder(world, materials, transform);
            _rig = new CameraRig(materials, transform);

            // Before the Academy, which receives the first message as soon as it is there.
            _channel = new MessageChannel();
            _channel.Received += session.Receive;
            SideChannelManager.RegisterSideChannel(_channel);
            Academy.Instance.AutomaticSteppingEnabled = false;

            var holder = new GameObject("Agent");
            holder.SetActive(false);
            holder.transform.SetParent(transform, false);
            var behavior = holder.AddComponent<BehaviorParameters>();
            behavior.BehaviorName = Protocol.Behavior;
            behavior.BehaviorType = BehaviorType.Default;
            behavior.BrainParameters.VectorObservationSize = 0;
            behavior.BrainParameters.ActionSpec = new ActionSpec(4, new[] { world.Constants.Slots, world.Kinds.Count });
            var sensors = holder.AddComponent<PlayerSensors>();
            sensors.Slots = world.Constants.Slots;
            _agent = holder.AddComponent<PlayerAgent>();
            _agent.MaxStep = 0;
            _agent.Set(session, builder, _rig, sensors, _channel);
            holder.SetActive(true);
        }

        void Update()
        {
            _agent.RequestDecision();
            Academy.Instance.EnvironmentStep();
        }

        void OnGUI()
        {
            if (_rig != null && _rig.Picture != null)
                GUI.DrawTexture(new Rect(0f, 0f, Screen.width, Screen.height), _rig.Picture, ScaleMode.ScaleToFit);
        }

        void OnDestroy()
        {
            if (_channel != null)
                SideChannelManager.UnregisterSideChannel(_channel);
        }
    }
}
