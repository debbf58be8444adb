// The look of everything: the light of the embedded backend's tracer, with Unity's shadows.
//   albedo * (ambient * (0.7 + 0.3 n_up) + intensity * max(n.l, 0) / (1 + d^2) * color) + specular lobe
// Both sides of a surface are drawn, and normals follow the side that is seen, whichever way a triangle is wound.
Shader "Rls3/Lit"
{
    Properties
    {
        _Color ("Color", Color) = (1, 1, 1, 1)
        _MainTex ("Texture", 2D) = "white" {}
        _Specular ("Specular", Float) = 0.1
    }

    CGINCLUDE
    #include "UnityCG.cginc"

    sampler2D _MainTex;
    fixed4 _Color;
    float _Specular;
    float _Rls3Ambient;
    float4 _Rls3LightColor;  // rgb, and the intensity in w

    float3 Albedo(float2 uv)
    {
        return _Color.rgb * tex2D(_MainTex, uv).rgb;
    }

    // The interpolated normal, turned to the side of the surface that the camera sees.
    float3 SeenNormal(float3 normal, float3 world)
    {
        float3 view = _WorldSpaceCameraPos - world;
        float3 facing = cross(ddy(world), ddx(world));
        facing *= dot(facing, view) < 0 ? -1 : 1;
        normal = normalize(normal);
        return dot(normal, facing) < 0 ? -normal : normal;
    }
    ENDCG

    SubShader
    {
        Tags { "RenderType" = "Opaque" }
        Cull Off

        Pass
        {
            Name "Ambient"
            Tags { "LightMode" = "ForwardBase" }

            CGPROGRAM
            #pragma vertex vert
            #pragma fragment frag

            struct v2f
            {
                float4 pos : SV_POSITION;
                float2 uv : TEXCOORD0;
                float3 world : TEXCOORD1;
                float3 normal : TEXCOORD2;
            };

            v2f vert(appdata_base v)
            {
                v2f o;
                o.pos = UnityObjectToClipPos(v.vertex);
                o.uv = v.texcoord.xy;
                o.world = mul(unity_ObjectToWorld, v.vertex).xyz;
                o.normal = UnityObjectToWorldNormal(v.normal);
                return o;
            }

            float4 frag(v2f i) : SV_Target
            {
                float up = SeenNormal(i.normal, i.world).y;
                return float4(Albedo(i.uv) * _Rls3Ambient * (0.7 + 0.3 * up), 1);
            }
            ENDCG
        }

        Pass
        {
            Name "Lamp"
            Tags { "LightMode" = "ForwardAdd" }
            Blend One One
            ZWrite Off

            CGPROGRAM
            #pragma vertex vert
            #pragma fragment frag
            #pragma multi_compile_fwdadd_fullshadows
            #include "AutoLight.cginc"

            struct v2f
            {
                float4 pos : SV_POSITION;
                float2 uv : TEXCOORD0;
                float3 world : TEXCOORD1;
                float3 normal : TEXCOORD2;
                UNITY_SHADOW_COORDS(3)
            };

            v2f vert(appdata_base v)
            {
                v2f o;
                UNITY_INITIALIZE_OUTPUT(v2f, o);
                o.pos = UnityObjectToClipPos(v.vertex);
                o.uv = v.texcoord.xy;
                o.world = mul(unity_ObjectToWorld, v.vertex).xyz;
                o.normal = UnityObjectToWorldNormal(v.normal);
                UNITY_TRANSFER_SHADOW(o, float2(0, 0));
                return o;
            }

            float4 frag(v2f i) : SV_Target
            {
                float3 normal = SeenNormal(i.normal, i.world);
                float3 toLight = _WorldSpaceLightPos0.xyz - i.world;
                float squared = dot(toLight, toLight);
                toLight *= rsqrt(squared);
                float3 toEye = normalize(_WorldSpaceCameraPos - i.world);
                float cosine = max(dot(normal, toLight), 0);
                float diffuse = cosine * _Rls3LightColor.w / (1 + squared);
                float lobe = pow(max(dot(normal, normalize(toLight + toEye)), 0), 48);
                float gloss = cosine > 0 ? _Specular * lobe : 0;
                float shadow = UNITY_SHADOW_ATTENUATION(i, i.world);
                return float4((Albedo(i.uv) * diffuse + gloss) * _Rls3LightColor.rgb * shadow, 1);
            }
            ENDCG
        }

        Pass
        {
            Name "ShadowCaster"
            Tags { "LightMode" = "ShadowCaster" }

            CGPROGRAM
            #pragma vertex vert
            #pragma fragment frag
            #pragma multi_compile_shadowcaster

            struct v2f
            {
                V2F_SHADOW_CASTER;
            };

            v2f vert(appdata_base v)
            {
                v2f o;
                TRANSFER_SHADOW_CASTER_NORMALOFFSET(o)
                return o;
            }

            float4 frag(v2f i) : SV_Target
            {
                SHADOW_CASTER_FRAGMENT(i)
            }
            ENDCG
        }
    }
}
