"""Talks TLS to itself with asyncio, which a blank loads without ssl."""

import asyncio


async def handler(event, context):
    import ssl

    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(event["certificate"], event["key"])
    client_side = ssl.create_default_context(cafile=event["certificate"])

    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side)
        writer.write(b"chirp\n")
        line = await reader.readline()
        writer.close()
    return line
