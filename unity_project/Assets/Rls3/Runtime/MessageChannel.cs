using System;
using Rls3.Core;
using Unity.MLAgents.SideChannels;

namespace Rls3.Unity
{
    /// <summary>JSON messages beside the observations. ML-Agents' strings are ASCII; so is our JSON.</summary>
    public sealed class MessageChannel : SideChannel
    {
        public event Action<string> Received;

        public MessageChannel() { ChannelId = new Guid(Protocol.Channel); }

        public void Send(string json)
        {
            using (var message = new OutgoingMessage())
            {
                message.WriteString(json);
                QueueMessageToSend(message);
            }
        }

        protected override void OnMessageReceived(IncomingMessage message)
        {
            Received?.Invoke(message.ReadString());
        }
    }
}
