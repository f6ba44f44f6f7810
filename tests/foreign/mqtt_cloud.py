"""The cloud's end of the broker, played by PyPI paho-mqtt: says what it saw, one JSON line each.

Reads one JSON object {port, ca, username, password, edge_id} from standard input. Once the device is online it
publishes three commands with Message Expiry, a retained twin and a poke; it ends when the device says offline.
"""

import json
import ssl
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

site = json.loads(sys.stdin.readline())
base = f"edge/v1/{site['edge_id']}"


def say(**what):
    print(json.dumps(what), flush=True)


def command(client):
    expiry = Properties(PacketTypes.PUBLISH)
    expiry.MessageExpiryInterval = 60
    for n in range(3):
        client.publish(f"{base}/down/cmd", f"header.command-{n}.mac", qos=1, properties=expiry)
    client.publish(f"{base}/down/twin", "header.twin.mac", qos=1, retain=True)
    client.publish(f"{base}/down/poke", "{}", qos=0)


def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        sys.exit(f"refused: {reason}")
    client.subscribe("edge/v1/+/up/#", qos=1)


def on_subscribe(client, userdata, mid, reasons, properties):
    say(listening=[str(reason) for reason in reasons])


def on_message(client, userdata, message):
    payload = json.loads(message.payload)
    say(topic=message.topic, qos=message.qos, retain=message.retain, payload=payload)
    if message.topic == f"{base}/up/state":
        if payload["online"]:
            command(client)
        else:
            client.disconnect()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho-cloud", protocol=mqtt.MQTTv5)
client.username_pw_set(site["username"], site["password"])
client.tls_set(ca_certs=site["ca"], tls_version=ssl.PROTOCOL_TLS_CLIENT)
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect("localhost", site["port"], keepalive=30)
client.loop_forever()
