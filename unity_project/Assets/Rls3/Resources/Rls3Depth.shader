// Distance from the camera along the pixel's ray, in whole millimeters: 256 * red + green. For a linear target.
Shader "Rls3/Depth"
{
    SubShader
    {
        Cull Off

        Pass
        {
            CGPROGRAM
            #pragma vertex vert
            #pragma fragment frag
            #include "UnityCG.cginc"

            struct v2f
            {
                float4 pos : SV_POSITION;
                float3 world : TEXCOORD0;
            };

            v2f vert(float4 vertex : POSITION)
            {
                v2f o;
                o.pos = UnityObjectToClipPos(vertex);
                o.world = mul(unity_ObjectToWorld, vertex).xyz;
                return o;
            }

            float4 frag(v2f i) : SV_Target
            {
                float meters = length(_WorldSpaceCameraPos - i.world);
                float millimeters = min(round(meters * 1000), 65534);  // 65535 stands for nothing
                float high = floor(millimeters / 256);
                return float4(high / 255, (millimeters - 256 * high) / 255, 0, 1);
            }
            ENDCG
        }
    }
}
