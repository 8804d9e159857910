"""What gunicorn serves: `app.wsgi:app`."""

from app.config import load_config
from app.factory import create_app

app = create_app(load_config())
