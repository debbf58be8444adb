using System;
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
}
