// Which object is seen at a pixel: the color of its slot, black for anything else. For a linear target.
Shader "Rls3/Id"
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
