using System;
using Rls3.Core;
using Unity.MLAgents.Sensors;

namespace Rls3.Unity
{
    /// <summary>A picture that was taken elsewhere, as PNG. Its size may change from observation to observation.</summary>
    public sealed class PictureSensor : ISensor
    {
        readonly string _name;
        byte[] _png = new byte[0];
        int _size = 64;

        public PictureSensor(string name) { _name = name; }

        public void Set(byte[] png, int size)
        {
            _png = png;
            _size = size;
        }

        public string GetName() { return _name; }

        public ObservationSpec GetObservationSpec()
        {
            // By name: versions of ML-Agents differ in the order.
            return ObservationSpec.Visual(channels: 3, height: _size, width: _size);
        }

        public CompressionSpec GetCompressionSpec() { return new CompressionSpec(SensorCompressionType.PNG); }

        public byte[] GetCompressedObservation() { return _png; }

        public int Write(ObservationWriter writer) { throw new NotSupportedException("pictures travel as PNG only"); }

        public void Update() { }

        public void Reset() { }
    }

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
