"""Neighbourhood components analysis with class proxies."""

from tuplet.bounds import Count, Part, Positive
from tuplet.losses.declare import register
from tuplet.losses.head import ScaledHeadLoss
from tuplet.margin import Combined, Margin


@register("proxy_nca")
class ProxyNCALoss(ScaledHeadLoss):
    r"""Raises the probability that the proxy nearest to an example is that of its class.

    $$L_i = -\log \frac{e^{-s D_{i y_i}}}{\sum_c e^{-s D_{ic}}}, \quad
    D_{ic} = \lVert \hat x_i - \hat w_c \rVert^2 = 2 - 2 \cos\theta_{ic}$$

    So it is the softmax of cosines at scale 2s. The first paper leaves the own class out of the sum; ProxyNCA++ and
    pytorch-metric-learning have it in, as here.

    Args:
        scale: s > 0; ProxyNCA++ takes the temperature 1/9.

    References:
        Movshovitz-Attias et al., "No Fuss Distance Metric Learning using Proxies", 2017, eq. 4; Teh, DeVries, Taylor,
        "ProxyNCA++: Revisiting and Revitalizing Proxy Neighborhood Component Analysis", 2020, eq. 5 and section 3.2.
    """

    scale: Positive = 9.0
    sub_centers: Count = 1
    sample_rate: Part = 1.0

    suits = "a softmax without margin, few examples of each class"

    def target_margin(self) -> Margin:
        """None."""
        return Combined(m3=0.0)

    def _scale(self) -> float:
        return 2 * self.scale


proxy_nca = ProxyNCALoss.function()
