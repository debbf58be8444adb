"""The paper's own setting: a Unity player shows the arrangements, driven through ML-Agents (extra `unity`)."""
