"""Quality and rate: PSNR, MS-SSIM, BD-rate, rate-distortion tables."""
