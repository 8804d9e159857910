"""What gunicorn serves: `app.wsgi:app`."""

from app.config import load_config
from app.factory import behind_proxy, create_app

config = load_config()
app = behind_proxy(create_app(config), config)
