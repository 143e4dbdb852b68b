"""A script that acts for one user: it has them log in once, and from then on calls an API with a token that is always valid.

pip install 'pauth[httpx]'
export ISSUER=https://accounts.google.com CLIENT_ID=... CLIENT_SECRET=... REDIRECT_URI=http://127.0.0.1:8000/callback
export API_URL=https://openidconnect.googleapis.com/v1/userinfo TOKENS=file:///home/me/.local/share/example
python script.py
"""

import asyncio
import os
from urllib.parse import urlsplit

import httpx

from pauth import OAuth2Client, ReauthorizationRequired
from pauth.integrations.httpx import TokenAuth


async def main() -> None:
    url = os.environ["API_URL"]
    client = OAuth2Client(
        os.environ["ISSUER"],
        os.environ["CLIENT_ID"],
        os.environ["CLIENT_SECRET"],
        os.environ["REDIRECT_URI"],
        scopes=["openid"],
        token_storage=os.environ["TOKENS"],
    )
    async with client:
        try:
            await client.get_token("me")
        except ReauthorizationRequired:
            print("Open this, and log in:", await client.get_authorization_url(user_id="me"), flush=True)
            await client.handle_callback(await asyncio.to_thread(input, "Paste the address that the browser ended at: "), user_id="me")
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        async with httpx.AsyncClient(auth=TokenAuth(client, "me", origins=origin)) as http:
            response = await http.get(url)
            response.raise_for_status()
            print(response.text)


if __name__ == "__main__":
    asyncio.run(main())
