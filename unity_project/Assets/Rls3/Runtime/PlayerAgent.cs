using System;
using Rls3.Core;
using Unity.MLAgents;
using Unity.MLAgents.Actuators;
using Unity.MLAgents.Sensors;
using UnityEngine;

namespace Rls3.Unity
{
    /// <summary>
    /// The one agent. Python owns reward, episodes and choices; this shows what it is told and says what is true of it.
    /// </summary>
    public sealed class PlayerAgent : Agent
    {
        Session _session;
        SceneBuilder _builder;
        CameraRig _rig;
        PlayerSensors _sensors;
        MessageChannel _channel;

        /// <summary>To be called before the agent wakes up.</summary>
        public void Set(
            Session session, SceneBuilder builder, CameraRig rig, PlayerSensors sensors, MessageChannel channel)
        {
            _session = session;
            _builder = builder;
            _rig = rig;
            _sensors = sensors;
            _channel = channel;
        }

        /// <summary>
        /// The session ignores an action unless this exchange brought the command <c>edit</c>: after every RESET except
        /// the first, ML-Agents calls this once with zeros, and every STEP carries some action.
        /// </summary>
        public override void OnActionReceived(ActionBuffers actions)
        {
            ActionSegment<int> choices = actions.DiscreteActions;
            ActionSegment<float> numbers = actions.ContinuousActions;
            _session.Act(choices[0], choices[1], numbers[0], numbers[1], numbers[2], numbers[3]);
        }

        /// <summary>Takes the pictures and queues the message, which so travel in the same exchange.</summary>
        public override void CollectObservations(VectorSensor sensor)
        {
            if (!_rig.Alive)
                return;  // ML-Agents asks once more when the player ends
            string answer;
            try
            {
                _builder.Show(_session.Shown);
                _rig.Capture(_session.Shown);
                answer = _session.Answer(_rig.Visible, _rig.Pixels);
            }
            catch (Exception error)
            {
                Debug.LogException(error);
                answer = _session.InternalError(error.GetType().Name + ": " + error.Message);
            }
            _sensors.Color.Set(_rig.ColorPng, _rig.Size);
            _sensors.Ids.Set(_rig.IdsPng, _rig.Size);
            _sensors.Depth.Set(_rig.DepthPng, _rig.Size);
            _sensors.Positions.AddObservation(_session.Positions());
            _channel.Send(answer);
        }

        /// <summary>Without Python nothing is chosen: the scene stays as it is.</summary>
        public override void Heuristic(in ActionBuffers actionsOut)
        {
            ActionSegment<int> choices = actionsOut.DiscreteActions;
            for (int i = 0; i < choices.Length; i++)
                choices[i] = 0;
            ActionSegment<float> numbers = actionsOut.ContinuousActions;
            for (int i = 0; i < numbers.Length; i++)
                numbers[i] = 0f;
        }
    }
}
