"""Every setting, read from the environment. A missing or malformed one stops the process and names itself.

Required: SECRET_KEY, DATABASE_URL, BROKER_URL (`make demo` and `make test` set them for the embedded services).
docs/operators.md lists all of them.
"""

from pathlib import Path

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from environs import Env

from config.rewards import check_judge, read_reward_functions

env = Env()

BASE_DIR = Path(__file__).resolve().parent.parent

# -- What must be given ---------------------------------------------------------
SECRET_KEY = env.str("SECRET_KEY")
if len(SECRET_KEY) < 32:
    raise ImproperlyConfigured("SECRET_KEY must have at least 32 characters")
DATABASES = {
    "default": {
        **env.dj_db_url("DATABASE_URL"),
        "CONN_MAX_AGE": env.int("CONN_MAX_AGE", 300),
        "CONN_HEALTH_CHECKS": True,
    }
}
CELERY_BROKER_URL = env.str("BROKER_URL")

# -- Where files go -------------------------------------------------------------
PODIUM_HOME = Path(env.str("PODIUM_HOME", str(BASE_DIR / ".podium"))).resolve()
# Shared by web and workers: imports, dataset versions, run folders, checkpoints. Never served by URL.
MEDIA_ROOT = Path(env.str("STORAGE_ROOT", str(PODIUM_HOME / "storage"))).resolve()
STATIC_ROOT = Path(env.str("STATIC_ROOT", str(PODIUM_HOME / "static"))).resolve()

# -- The web --------------------------------------------------------------------
DEBUG = env.bool("DEBUG", False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
HTTPS = env.bool("HTTPS", False)  # a proxy in front speaks https: cookies and redirects say so
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31536000 if HTTPS else 0
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
if env.bool("BEHIND_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 14 * 24 * 3600
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
# The largest upload of an import; larger ones go in with `manage.py import_prompts`.
UPLOAD_LIMIT_BYTES = env.int("UPLOAD_LIMIT_BYTES", 2 * 1024**3)
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024**2
FILE_UPLOAD_HANDLERS = ["config.uploads.LimitedUploadHandler"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "csp",
    "django_celery_beat",
    "django_htmx",
    "template_partials",
    "annotate",
    "training",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "config.scripts.answer_scripts",  # whatever follows is for pages
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# -- People ---------------------------------------------------------------------
AUTH_USER_MODEL = "annotate.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_ADAPTER = "annotate.accounts.ClosedSignupAdapter"
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_RATE_LIMITS = {"join": "60/m/ip"}  # opening an invitation, joining by it; the others are allauth's own
# Trusted only when a proxy of ours sets X-Forwarded-For; otherwise anyone could dodge the sign-in rate limit.
ALLAUTH_TRUSTED_PROXY_COUNT = env.int("TRUSTED_PROXY_COUNT", 0)
EMAIL_BACKEND = env.str("EMAIL_BACKEND", "django.core.mail.backends.console.EmailBackend")
EMAIL_TIMEOUT = 10

# In Postgres, so that signing in and ranking need nothing but the database. It holds only rate limits.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "django_cache"}}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_SECURE = HTTPS
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# -- Background work: the row in Postgres is the truth, the message only a wake-up --------
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 8
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1, "interval_max": 0.2}
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {"training.reply": {"queue": "generate"}}
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
# A round that nobody took before the next one is due is not worth making.
CELERY_BEAT_SCHEDULE = {
    "expire-leases": {"task": "annotate.expire_leases", "schedule": 30.0, "options": {"expires": 30}},
    "compare-rankings": {"task": "annotate.compare_rankings", "schedule": 60.0, "options": {"expires": 60}},
    "reap-jobs": {"task": "annotate.reap_jobs", "schedule": 15.0, "options": {"expires": 15}},
    "reap-runs": {"task": "training.reap_runs", "schedule": 15.0, "options": {"expires": 15}},
    "forget-responses": {"task": "annotate.forget_responses", "schedule": 3600.0, "options": {"expires": 3600}},
    "deliver-events": {"task": "annotate.deliver_events", "schedule": 5.0, "options": {"expires": 5}},
    "forget-events": {"task": "annotate.forget_events", "schedule": 3600.0, "options": {"expires": 3600}},
    "trim-exports": {"task": "annotate.trim_exports", "schedule": 600.0, "options": {"expires": 600}},
    "discard-old-drafts": {"task": "annotate.discard_old_drafts", "schedule": 3600.0, "options": {"expires": 3600}},
    "tend-pipelines": {"task": "training.tend_pipelines", "schedule": 10.0, "options": {"expires": 10}},
}

# -- Training runs --------------------------------------------------------------
# A worker renews a run's lease every RUN_BEAT_SECONDS; after RUN_LEASE_SECONDS of silence another may take the run.
RUN_LEASE_SECONDS = env.float("RUN_LEASE_SECONDS", 60.0)
RUN_BEAT_SECONDS = env.float("RUN_BEAT_SECONDS", 2.0)
# How long a run that is told to stop may take to save before it is killed.
RUN_GRACE_SECONDS = env.float("RUN_GRACE_SECONDS", 20.0)
# How long a checkpoint that somebody tries stays loaded for their next question, if no other work waits.
REPLY_IDLE_SECONDS = env.float("REPLY_IDLE_SECONDS", 20.0)
# Folders from which an admin may add a base model.
MODEL_ROOTS = [Path(root).resolve() for root in env.list("MODEL_ROOTS", [str(PODIUM_HOME / "models")])]
# Where people reach Podium, such as https://podium.example: what is sent to other programs names whole addresses then.
PUBLIC_URL = env.str("PUBLIC_URL", "")
# Hosts to which webhooks may be sent though they are in a private network, or speak http.
_private_hosts: list[str] = env.list("WEBHOOK_PRIVATE_HOSTS", [])
WEBHOOK_PRIVATE_HOSTS = frozenset(host.strip().lower() for host in _private_hosts)
# How often one token may call the API.
API_REQUESTS_PER_MINUTE = env.int("API_REQUESTS_PER_MINUTE", 1200)
# Downloads of dataset versions that are kept, so that they can be resumed; the least recently used go first.
EXPORT_CACHE_BYTES = env.int("EXPORT_CACHE_BYTES", 5 * 1024**3)
# Where dataset versions are published, and with whose token; without one nobody can.
HF_TOKEN = env.str("HF_TOKEN", "")
HF_ENDPOINT = env.str("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
# Folders in which the texts lie that models are pre-trained on.
TEXT_ROOTS = [Path(root).resolve() for root in env.list("TEXT_ROOTS", [str(PODIUM_HOME / "texts")])]
HUB_ENABLED = env.bool("HUB_ENABLED", False)  # recipes may download models from the Hugging Face hub
# Rewards of one's own: `name=package.module:function`, imported by the recipe alone.
REWARD_FUNCTIONS = read_reward_functions(env.str("REWARD_FUNCTIONS", ""))
# An OpenAI-compatible endpoint that judges completions. The key reaches the recipes that ask it, and nothing else.
JUDGE_URL = env.str("JUDGE_URL", "")
JUDGE_MODEL = env.str("JUDGE_MODEL", "")
JUDGE_API_KEY = env.str("JUDGE_API_KEY", "")
JUDGE_TIMEOUT = env.float("JUDGE_TIMEOUT", 60.0)
JUDGE_CONCURRENCY = env.int("JUDGE_CONCURRENCY", 8)
check_judge(JUDGE_URL, JUDGE_MODEL, JUDGE_API_KEY, JUDGE_TIMEOUT, JUDGE_CONCURRENCY)

# -- Logs: one line each, to stderr ------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "INFO")},
    # config.errors logs what failed, with the reference that the person was shown.
    "loggers": {"django.request": {"level": "CRITICAL"}},
}
