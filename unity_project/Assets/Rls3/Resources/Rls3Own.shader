// Every pixel that an object covers, whatever is in front: slots add up, each in a channel of its own.
Shader "Rls3/Own"
{
    SubShader
    {
        Cull Off
        ZTest Always
        ZWrite Off
        Blend One One

        Pass
        {
            CGPROGRAM
            #pragma vertex vert
            #pragma fragment frag
            #include "UnityCG.cginc"

            float4 _Rls3Id;  // of an object's renderers; black for everything else

            float4 vert(float4 vertex : POSITION) : SV_POSITION
            {
                return UnityObjectToClipPos(vertex);
            }

            float4 frag() : SV_Target
            {
                return _Rls3Id;
            }
            ENDCG
        }
    }
}
