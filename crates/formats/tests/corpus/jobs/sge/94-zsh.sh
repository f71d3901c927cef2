#!/bin/zsh
#$ -S /bin/zsh
#$ -N tiles
#$ -t 10-30:5 -tc 2
#$ -hold_jid_ad mosaic,warp
for f in tiles/${SGE_TASK_ID}_*.tif(N); do
    gdal_translate -of COG $f cog/${f:t}
done
