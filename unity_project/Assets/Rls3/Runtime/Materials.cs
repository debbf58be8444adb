using System.Collections.Generic;
using Rls3.Core;
using UnityEngine;

namespace Rls3.Unity
{
    /// <summary>The project's own shaders, and one material for each look. Nothing built-in is looked up by name.</summary>
    public sealed class Materials
    {
        static readonly int ColorId = Shader.PropertyToID("_Color");
        static readonly int SpecularId = Shader.PropertyToID("_Specular");
        static readonly int TextureId = Shader.PropertyToID("_MainTex");

        readonly Dictionary<string, Material> _materials = new Dictionary<string, Material>();
        readonly Dictionary<string, Texture2D> _textures = new Dictionary<string, Texture2D>();
        readonly Shader _lit = Load("Rls3Lit");

        /// <summary>Shows the slot of an object as a color: the nearest one of each pixel.</summary>
        public Shader Ids { get; } = Load("Rls3Id");

        /// <summary>Shows every slot in a color channel of its own, whatever is in front.</summary>
        public Shader Own { get; } = Load("Rls3Own");

        /// <summary>Shows the distance from the camera in millimeters.</summary>
        public Shader Depth { get; } = Load("Rls3Depth");

        public Material Of(ShapedPart part)
        {
            string key = part.Color.ToJson() + "/" + part.Texture + "/" + NumberText.Format(part.Specular);
            Material material;
            if (_materials.TryGetValue(key, out material))
                return material;
            material = new Material(_lit);
            material.SetColor(ColorId, Convert.Srgb(part.Color));
            material.SetFloat(SpecularId, (float)part.Specular);
            if (part.Texture != null)
                material.SetTexture(TextureId, Texture(part.Texture));
            _materials.Add(key, material);
            return material;
        }

        Texture2D Texture(string name)
        {
            Texture2D texture;
            if (_textures.TryGetValue(name, out texture))
                return texture;
            byte[] brightness = TextureMaker.Make(name);
            var pixels = new Color32[brightness.Length];
            for (int i = 0; i < pixels.Length; i++)
                pixels[i] = new Color32(brightness[i], brightness[i], brightness[i], 255);
            texture = new Texture2D(TextureMaker.Side, TextureMaker.Side, TextureFormat.RGBA32, true)
            {
                name = name,
                wrapMode = TextureWrapMode.Repeat,
                filterMode = FilterMode.Trilinear,
                anisoLevel = 4,
            };
            texture.SetPixels32(pixels);
            texture.Apply(true);
            _textures.Add(name, texture);
            return texture;
        }

        static Shader Load(string name)
        {
            var shader = Resources.Load<Shader>(name);
            if (shader == null)
                throw new System.InvalidOperationException("shader Assets/Rls3/Resources/" + name + ".shader is missing");
            return shader;
        }
    }
}
