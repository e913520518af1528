"""The host's side of one connection, by MIT Kerberos. Lines of hex on stdin and stdout:
step TOKEN, unwrap TOKEN, wrap PLAIN (a stream), seal PLAIN (in parts, as Windows does).
The first argument is the channel binding in hex, or nothing. KRB5_KTNAME has the keys."""
import struct
import sys

import gssapi
from gssapi.raw import IOV, ChannelBindings, IOVBufferType, unwrap, wrap, wrap_iov

binding = bytes.fromhex(sys.argv[1]) if len(sys.argv) > 1 else b""
bindings = ChannelBindings(application_data=binding) if binding else None
context = gssapi.SecurityContext(usage="accept", creds=gssapi.Credentials(usage="accept"), channel_bindings=bindings)


def step(token):
    out = context.step(token)
    try:
        context.complete
    except Exception as e:  # python3-gssapi keeps it back while there is a token to send
        return [out.hex(), "0", str(e).replace(" ", "_")]
    flags = "".join(f.name[0] for f in gssapi.RequirementFlag if f in context.actual_flags)
    return [(out or b"").hex(), str(int(context.complete)), str(context.initiator_name), flags]


def seal(plain):
    iov = IOV(IOVBufferType.header, plain, IOVBufferType.padding, std_layout=False)
    wrap_iov(context, iov, confidential=True)
    return [(iov[0].value or b"").hex(), ((iov[1].value or b"") + (iov[2].value or b"")).hex()]


def opened(token):
    r = unwrap(context, token)
    if not r.encrypted:
        raise ValueError("signed only")
    ec, rrc = struct.unpack(">HH", token[4:8])
    return [r.message.hex(), str(ec), str(rrc)]


for line in sys.stdin:
    verb, _, arg = line.strip().partition(" ")
    data = bytes.fromhex(arg)
    try:
        if verb == "step":
            answer = step(data)
        elif verb == "unwrap":
            answer = opened(data)
        elif verb == "wrap":
            answer = [wrap(context, data, confidential=True).message.hex()]
        else:
            answer = seal(data)
        print("ok", *(a or "-" for a in answer), flush=True)
    except Exception as e:  # what MIT says is the answer
        print("error", str(e).replace("\n", " "), flush=True)
