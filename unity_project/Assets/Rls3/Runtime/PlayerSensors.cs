using Rls3.Core;
using Unity.MLAgents.Sensors;

namespace Rls3.Unity
{
    /// <summary>The agent's sensors: three pictures, and the positions as numbers to compare the message with.</summary>
    public sealed class PlayerSensors : SensorComponent
    {
        public PictureSensor Color { get; } = new PictureSensor(Protocol.CameraSensor);
        public PictureSensor Ids { get; } = new PictureSensor(Protocol.IdsSensor);
        public PictureSensor Depth { get; } = new PictureSensor(Protocol.DepthSensor);
        public VectorSensor Positions { get; private set; }

        /// <summary>Number of slots; to be set before the agent wakes up.</summary>
        public int Slots { get; set; }

        public override ISensor[] CreateSensors()
        {
            Positions = new VectorSensor(1 + 3 * Slots, Protocol.PositionsSensor);
            return new ISensor[] { Color, Ids, Depth, Positions };
        }
    }
}
