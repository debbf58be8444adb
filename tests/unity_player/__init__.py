"""The stand-in player: what a Unity player is to Python, without Unity. A test tool.

It speaks the real gRPC messages of ML-Agents to the real `UnityEnvironment`, obeys `unity_project/PROTOCOL.md`, and has
its pictures traced by the embedded backend. It can be told to have another look, and to misbehave.
"""
