using System;
using Rls3.Core;
using UnityEngine;

namespace Rls3.Unity
{
    /// <summary>Takes the pictures of a scene: color, ids and depth as PNG, and counts each object's pixels.</summary>
    public sealed class CameraRig
    {
        // What the embedded backend shows where there is nothing: 0.02 in linear light.
        static readonly Color Backdrop = new Color(0.151f, 0.151f, 0.151f, 1f);
        static readonly Color NoObject = new Color(0f, 0f, 0f, 1f);
        static readonly Color NoDepth = new Color(1f, 1f, 0f, 1f);

        readonly Materials _materials;
        readonly Camera _camera;
        Texture2D _color;
        Texture2D _data;

        public CameraRig(Materials materials, Transform root)
        {
            _materials = materials;
            var holder = new GameObject("Camera");
            holder.transform.SetParent(root, false);
            _camera = holder.AddComponent<Camera>();
            _camera.enabled = false;  // it renders when it is asked to
            _camera.renderingPath = RenderingPath.Forward;
            _camera.clearFlags = CameraClearFlags.SolidColor;
            _camera.nearClipPlane = 0.05f;
            _camera.farClipPlane = 40f;
            _camera.allowHDR = false;
            _camera.useOcclusionCulling = false;
            QualitySettings.shadows = ShadowQuality.All;
            QualitySettings.shadowResolution = ShadowResolution.VeryHigh;
            QualitySettings.shadowDistance = 30f;
            QualitySettings.pixelLightCount = 1;
            // Until something could be shown: black pictures, which decode.
            Resize(64);
            ColorPng = IdsPng = DepthPng = _color.EncodeToPNG();
            Size = 64;
        }

        /// <summary>Side of the pictures, pixels.</summary>
        public int Size { get; private set; }

        public byte[] ColorPng { get; private set; }
        public byte[] IdsPng { get; private set; }
        public byte[] DepthPng { get; private set; }
        /// <summary>By slot: visible pixels.</summary>
        public int[] Pixels { get; private set; }
        /// <summary>By slot: visible pixels / pixels with nothing in front; 0 when out of view.</summary>
        public double[] Visible { get; private set; }

        /// <summary>The last color picture, for the window.</summary>
        public Texture2D Picture { get { return _color; } }

        /// <summary>False once Unity has destroyed the camera, at the end of play.</summary>
        public bool Alive { get { return _camera != null; } }

        public void Capture(Show show)
        {
            Resize(show.Size);
            Transform transform = _camera.transform;
            transform.localPosition = Convert.Point(show.Camera.Eye);
            transform.localRotation = Convert.Rotation(UnityAxes.Look(show.Camera));
            _camera.fieldOfView = (float)show.Camera.FovDeg;

            int samples = show.Quality == "low" ? 1 : show.Quality == "medium" ? 2 : 4;
            Render(_color, null, Backdrop, ~0, samples, RenderTextureReadWrite.sRGB);
            _color.Apply(false);
            byte[] color = _color.EncodeToPNG();
            byte[] depth = TakeData(_materials.Depth, NoDepth, ~0);
            TakeData(_materials.Own, NoObject, 1 << SceneBuilder.ObjectLayer);
            int[] own = CountSlots(_data.GetPixels32(), show.Objects.Count);
            byte[] ids = TakeData(_materials.Ids, NoObject, ~0);
            Pixels = CountSlots(_data.GetPixels32(), show.Objects.Count);
            Visible = new double[own.Length];
            for (int slot = 0; slot < own.Length; slot++)
                Visible[slot] = own[slot] == 0 ? 0.0 : Math.Min(1.0, Pixels[slot] / (double)own[slot]);
            ColorPng = color;
            IdsPng = ids;
            DepthPng = depth;
            Size = show.Size;
        }

        // A picture whose bytes are numbers: neither converted between color spaces nor smoothed.
        byte[] TakeData(Shader shader, Color background, int layers)
        {
            Render(_data, shader, background, layers, 1, RenderTextureReadWrite.Linear);
            return _data.EncodeToPNG();
        }

        void Render(
            Texture2D into, Shader shader, Color background, int layers, int samples, RenderTextureReadWrite space)
        {
            RenderTexture target = RenderTexture.GetTemporary(
                into.width, into.height, 24, RenderTextureFormat.ARGB32, space, samples);
            RenderTexture before = RenderTexture.active;
            _camera.targetTexture = target;
            _camera.aspect = 1f;
            // A camera's background is an sRGB color, which a linear target shows as it is only where it is 0 or 1.
            _camera.backgroundColor = background;
            _camera.cullingMask = layers;
            _camera.allowMSAA = samples > 1;
            if (shader == null)
                _camera.Render();
            else
                _camera.RenderWithShader(shader, "");
            RenderTexture.active = target;
            into.ReadPixels(new Rect(0f, 0f, into.width, into.height), 0, 0, false);
            RenderTexture.active = before;
            _camera.targetTexture = null;
            RenderTexture.ReleaseTemporary(target);
        }

        void Resize(int size)
        {
            if (_color != null && _color.width == size)
                return;
            if (_color != null)
            {
                UnityEngine.Object.Destroy(_color);
                UnityEngine.Object.Destroy(_data);
            }
            _color = new Texture2D(size, size, TextureFormat.RGB24, false, false) { name = "color" };
            _data = new Texture2D(size, size, TextureFormat.RGB24, false, true) { name = "data" };
        }

        static int[] CountSlots(Color32[] pixels, int objects)
        {
            var counts = new int[objects];
            foreach (Color32 pixel in pixels)
                for (int slot = 0; slot < objects; slot++)
                {
                    byte channel = slot == 0 ? pixel.r : slot == 1 ? pixel.g : pixel.b;
                    if (channel > 127)
                        counts[slot]++;
                }
            return counts;
        }
    }
}
